//! The server: a router per name, limits, signals, graceful shutdown, the service manager, and the handoff to the next
//! process.
//!
//! [`Server`] is built, and then awaited. It takes the sockets of an [`ActivatedListeners`](crate::ActivatedListeners)
//! by the names of its routes, and serves HTTP/1.1 and HTTP/2 on them until it is stopped. What it did is in a
//! [`DrainReport`](crate::DrainReport).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), axum_activation::Error> {
//! # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
//! # let (app, stop) = (axum::Router::<()>::new(), async {});
//! use axum::{Router, routing::get};
//! use axum_activation::Server;
//!
//! let app = Router::new().route("/", get(|| async { "hello" }));
//! let server = Server::new(activated).serve("http", app);
//!
//! let drain = server.drain();
//! tokio::spawn(async move { drain.start() }); // a program waits for SIGTERM, which the server does by itself
//! let report = server.run().await?;
//! assert!(report.is_clean());
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//!
//! One task a route accepts, and one task a connection serves it. The connection decides by its first bytes which
//! protocol it is, and watches what passes, so that it knows when it is idle. A drain reaches each connection through
//! the token of its task. The statistics are counted where the events happen, in shards of a thread.

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

#[cfg(fuzzing)]
pub(crate) use self::connection::fuzzing;
pub use self::{
    builder::Server, incoming::IncomingConnection, limits::Http2Options, options::ServeOptions, run::ServerFuture,
};
