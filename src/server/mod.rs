//! A router per name: accept, serve, and end in order.
//!
//! [`Server`] is built, then runs as one future. Below it lie the routes (an accept loop each) and their connections; beside them what
//! systemd is told, the fd store, and the handoff to the next process.

mod accept;
mod builder;
mod checks;
mod connection;
mod fd_store;
mod handoff;
mod incoming;
mod limits;
mod notify;
mod options;
mod reaper;
mod route;
mod routes;
mod run;
mod running;
mod sink;

pub use self::{
    builder::Server, incoming::IncomingConnection, limits::Http2Options, options::ServeOptions, run::ServerFuture,
};
