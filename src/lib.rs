//! Sockets by name and a router per socket, for axum on Linux.
//!
//! A service takes its listening sockets by name from whoever opened them (systemd, `systemd-socket-activate`, any
//! program that speaks `LISTEN_FDS`), binds fallbacks for those that nobody passed, and serves a router per name.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use axum_activation::{ActivatedListeners, Error, Server};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
//!     let app = Router::new().route("/", get(|| async { "hello\n" }));
//!     Server::new(activated).serve("http", app).run().await?;
//!     Ok(())
//! }
//! ```
//!
//! `activated.one("http")?` alone is a listener for [`axum::serve`](fn@axum::serve).
//!
//! | module | has |
//! | --- | --- |
//! | [`activation`] | [`ActivatedListeners`]: the sockets of this process by name, each owned once |
//! | [`addr`] | [`ListenAddr`] and [`PeerAddr`]: where to listen, and who is at the other end |
//! | [`drain`] | [`Drain`]: the end of a service, for whoever has to know; [`DrainReport`]: what it did until then |
//! | [`error`] | the one [`Error`], which names the socket and the remedy |
//! | [`extract`] | axum extractors: [`ListenerName`], [`Drain`], and [`ActivatedListeners`] to be shown |
//! | [`handoff`] | the next process of this service |
//! | [`layer`] | [`DrainLayer`](layer::DrainLayer): the drain under another tower server |
//! | [`listener`] | [`ActivatedListener`]: axum's [`Listener`](axum::serve::Listener) over the sockets of one name |
//! | [`notify`] | [`Notifier`]: what the service manager is told; `Server` does it by itself |
//! | [`mod@readiness`] | [`readiness()`](readiness::readiness): a route for load balancers |
//! | [`server`] | [`Server`]: a router per name, signals, an orderly end |
//! | [`unit_check`] | [`check`](unit_check::check): what is wrong with a systemd unit for such a service, and the line that fixes it |
//!
//! Feature `vsock`: listeners and peers on `AF_VSOCK`, between a virtual machine and its host. Feature `metrics`: the figures of
//! a server through the `metrics` facade.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/activation.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/deploy/README.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/drain.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/fdstore.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/handoff.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/systemd-units.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/systemd.md"))]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::exit, clippy::print_stderr, clippy::print_stdout)]

pub mod activation;
pub mod addr;
mod blocking;
pub mod drain;
pub mod error;
pub mod extract;
mod fdstore;
pub mod handoff;
mod idle_connection;
pub mod layer;
pub mod listener;
mod log;
pub mod notify;
pub mod readiness;
pub mod server;
mod sys;
pub mod unit_check;
mod unwind;
mod wire;

pub use self::{
    activation::{ActivatedListeners, ActivatedListenersBuilder, ActivatedSocket, ForeignPid},
    addr::{ListenAddr, PeerAddr, PeerCredentials, UnixPeer},
    drain::{Drain, DrainReport, Phase},
    error::Error,
    extract::ListenerName,
    listener::{ActivatedListener, ActivatedStream, ListenOptions},
    notify::Notifier,
    server::Server,
    sys::socket::{SocketFamily, SocketKind},
};
