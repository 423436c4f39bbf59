//! The handoff from a serving process to the next one, which goes on with its sockets, its state and its idle
//! connections.
//!
//! [`Server`](crate::Server) does it by itself, at SIGHUP, at [`Handoff::start`], or when the next process comes to its
//! [`handoff_socket`](crate::ActivatedListenersBuilder::handoff_socket). [`Handoff::builder`] is for services that are
//! served otherwise, and [`request_handoff`] for programs that ask for one.
//!
//! # What a client sees
//!
//! Nothing. Here both processes are servers of one program, so that it can be watched. The next one finds the old one
//! at a path. The client keeps its connection, and the next one answers on it:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::get};
//! use axum_activation::{ActivatedListeners, Server};
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream, task::spawn_blocking};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("handoff.sock");
//! let sockets = move || ActivatedListeners::builder().handoff_socket(&path).fallback("http", "127.0.0.1:0").build();
//! let server = |activated, text: &'static str| {
//!     let app = Router::new().route("/", get(move || async move { text }));
//!     Server::new(activated).serve("http", app).without_handoff_signals() // as two run in this program
//! };
//!
//! let activated = sockets()?;
//! let addr = activated.iter().next().unwrap().addr().unwrap().to_string();
//! let old = tokio::spawn(server(activated, "old").run());
//!
//! let mut client = TcpStream::connect(addr).await?;
//! let mut answer = async || -> std::io::Result<String> {
//!     client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
//!     let mut space = [0; 1000];
//!     let length = client.read(&mut space).await?;
//!     Ok(String::from_utf8_lossy(&space[..length]).into_owned())
//! };
//! assert!(answer().await?.ends_with("old"));
//!
//! let activated = spawn_blocking(sockets).await??; // asks the old one for its sockets
//! let new = server(activated, "new");
//! let drain = new.drain();
//! let new = tokio::spawn(new.run());
//! let report = old.await??;
//! assert_eq!((report.listeners[0].moved, report.listeners[0].aborted), (1, 0));
//!
//! assert!(answer().await?.ends_with("new"), "on the same connection");
//! drain.start();
//! new.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # The steps
//!
//! 1. The old process starts the next one, or the next one connects to the path of the old one.
//! 2. The next one gets the listeners and the state, and initialises itself. The old one serves. Until the commit, any
//!    failure of the next one ends the handoff, and nothing has changed.
//! 3. The next one is ready. The old one commits: it accepts no more, and the next one does.
//! 4. Connections move, each when nothing is under way on it. What cannot move drains in the old one.
//! 5. The old one sends its final state, and ends.
//!
//! The protocol is in `src/wire`, and `src/handoff` has what decides: when to start, how long to wait, what a failure
//! means.

mod builder;
mod coordinator;
mod failure;
mod handle;
mod hook;
mod main_pid;
mod new;
mod old;
mod options;
mod rendezvous;
mod requests;
mod service;
mod signals;
mod spawn;
mod state_part;

pub use self::{
    builder::{Active, HandoffBuilder, Pending},
    handle::Handoff,
    options::PlainSuccessor,
    rendezvous::operator::request_handoff,
    spawn::next_process::start_process,
    state_part::{Snapshot, StatePart},
};
pub(crate) use self::{
    coordinator::Coordinator,
    failure::failed,
    handle::Calls,
    hook::BoxError,
    main_pid::set_main_pid,
    new::takeover::Takeover,
    options::Options,
    service::{Event, Service},
    signals::{Signals, Stop},
    state_part::StateParts,
};
