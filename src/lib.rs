//! Named sockets, graceful shutdown, and restarts that no client notices, for axum on Linux.
//!
//! A service takes its listening sockets by name from the launcher that opened them (systemd,
//! `systemd-socket-activate`, any program that sets `LISTEN_FDS`). If a socket was not passed, the service binds the
//! fallback address. It serves a router per name, drains at SIGTERM, and hands over to the next process at SIGHUP: with
//! its listeners, its state and its connections.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use axum_activation::{ActivatedListeners, Error, Server};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
//!     let app = Router::new().route("/", get(|| async { "hello\n" }));
//!     Server::new(activated).serve("http", app).await?;
//!     Ok(())
//! }
//! ```
//!
//! Each part is of use alone. `activated.one("http")?` is a listener for [`axum::serve`](fn@axum::serve):
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use axum::Router;
//! use axum_activation::{ActivatedListeners, Drain};
//!
//! let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
//! let drain = Drain::new();
//! let listener = activated.one("http")?.stop_on(&drain);
//! drain.start(); // at a signal
//! axum::serve(listener, Router::new()).with_graceful_shutdown(drain.started_after(std::time::Duration::ZERO)).await
//! # }
//! ```
//!
//! # Modules
//!
//! | module | has |
//! | --- | --- |
//! | [`activation`] | [`ActivatedListeners`]: the sockets of this process by name, each owned once |
//! | [`addr`] | [`ListenAddr`] and [`PeerAddr`]: where to listen, and who is at the other end |
//! | [`drain`] | [`Drain`] coordinates graceful shutdown; [`DrainReport`] is what it did |
//! | [`error`] | the one [`Error`], which names the socket and the fix |
//! | [`extract`] | axum extractors: [`ListenerName`], [`Drain`], and [`ActivatedListeners`] to be shown |
//! | [`guide`] | how to use all of it, one topic a page |
//! | [`handoff`] | the handoff to the next process of this service |
//! | [`layer`] | [`DrainLayer`](layer::DrainLayer): the drain under another tower server |
//! | [`listener`] | [`ActivatedListener`]: axum's [`Listener`](axum::serve::Listener) over the sockets of one name |
//! | [`notify`] | [`Notifier`]: messages to the service manager; `Server` sends them by itself |
//! | [`mod@readiness`] | [`readiness()`](readiness::readiness): a route for load balancers |
//! | [`mod@resume`] | [`Resume`](resume::Resume): handlers of WebSockets and streams that go on in the next process |
//! | [`server`] | [`Server`]: a router per name, limits, signals, graceful shutdown, handoff |
//! | `tls` | `Tls`: certificates and handshakes of a listener (feature `tls`) |
//! | [`unit_check`] | [`check`](unit_check::check): what is wrong with a systemd unit for such a service, and the line that fixes it |
//!
//! # Features
//!
//! `server` is on by default. Each level has what the one above it has, and each feature only adds:
//!
//! | feature | adds | packages |
//! | --- | --- | --: |
//! | none (`default-features = false`) | listeners, drain, layer, extractors, readiness and `sd_notify`, for `axum::serve` and other servers | 45 |
//! | `handoff` | the next process takes over sockets and state, by spawn or rendezvous, under `axum::serve` and other servers | 53 |
//! | `server` | [`Server`]: a router per name, signals, limits, HTTP/2, systemd's fd store, and the handoff of live connections | 60 |
//! | `websocket` | `ResumableWebSocket`: a handler of axum's WebSocket goes on in the next process | + 19 |
//! | `metrics` | `Stats::publish`: the statistics of a server through the `metrics` facade | + 3 |
//! | `vsock` | listeners and peers on `AF_VSOCK`, between a virtual machine and its host | + 8 |
//! | `tls-ring`, `tls-aws-lc-rs` | `tls`: TLS on a named socket with rustls, and the provider of its cryptography; `tls` alone has none | + 34 |
//! | `unit-check` | [`unit_check`]: what a systemd unit must say for such a service | + 0 |
//!
//! Packages are all that `cargo tree -e normal` shows, this crate and axum's own 36 included. A program with axum's
//! default features and `tokio/full` has most of them: without features this crate adds 7 to it, with `server` 18.
//!
//! A program without the feature `handoff` that an old process hands over to warns and closes the control socket, so
//! the old process rolls back and serves on.
//!
//! # What the crate relies on
//!
//! - Linux 5.9 or later, and tokio with I/O and timers.
//! - The sockets are claimed first thing in `main`, before other code opens descriptors.
//! - A panic unwinds. With `panic = "abort"` a panic of a handler ends the process, as in every server.
//!
//! Events are logged with [`tracing`]. The target is the module, such as `axum_activation::server`.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Lower modules have parts that only the modules of a feature use. What nothing uses is found with every feature.
#![cfg_attr(not(feature = "server"), allow(dead_code, unused_imports, unused_macros))]
#![cfg_attr(not(all(feature = "server", feature = "unit-check")), allow(rustdoc::broken_intra_doc_links))]
#![warn(clippy::exit, clippy::print_stderr, clippy::print_stdout)]

pub mod activation;
pub mod addr;
mod blocking;
pub mod drain;
pub mod error;
pub mod extract;
#[cfg(feature = "server")]
mod fdstore;
#[cfg(all(fuzzing, feature = "server"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "server")]
pub mod guide;
#[cfg(feature = "handoff")]
pub mod handoff;
#[cfg(feature = "handoff")]
mod idle_connection;
pub mod layer;
pub mod listener;
mod log;
pub mod notify;
pub mod readiness;
#[cfg(feature = "server")]
pub mod resume;
#[cfg(feature = "server")]
pub mod server;
mod sys;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "unit-check")]
pub mod unit_check;
mod unwind;
#[cfg(feature = "handoff")]
mod wire;

#[cfg(feature = "server")]
pub use self::server::Server;
pub use self::{
    activation::{ActivatedListeners, ActivatedListenersBuilder, ActivatedSocket, ForeignPid},
    addr::{ListenAddr, PeerAddr, PeerCredentials, UnixPeer},
    drain::{Drain, DrainReport, Phase},
    error::Error,
    extract::ListenerName,
    listener::{ActivatedListener, ActivatedStream, ListenOptions},
    notify::Notifier,
    sys::socket::{SocketFamily, SocketKind},
};
