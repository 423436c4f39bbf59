//! Socket activation, named listeners and restarts for axum.
#![warn(clippy::exit, clippy::print_stderr, clippy::print_stdout)]

pub mod activation;
pub mod addr;
pub mod drain;
pub mod error;
pub mod extract;
pub mod listener;
pub mod server;
mod sys;

pub use self::{
    activation::{ActivatedListeners, ActivatedListenersBuilder, ActivatedSocket},
    addr::{ListenAddr, PeerAddr, PeerCredentials, UnixPeer},
    drain::{Drain, DrainReport, Phase},
    error::Error,
    extract::ListenerName,
    listener::{ActivatedListener, ActivatedStream, ListenOptions},
    server::Server,
    sys::socket::{SocketFamily, SocketKind},
};
