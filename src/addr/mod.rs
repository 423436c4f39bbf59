//! Addresses: where to listen, and who is at the other end of a connection.
//!
//! [`ListenAddr`] is what an operator writes into a configuration or on a command line. [`PeerAddr`] is what a handler
//! learns about a client. Both read and print one text form, so they go through logs, configuration files and JSON
//! unchanged.
//!
//! ```
//! use axum_activation::{ListenAddr, PeerAddr};
//!
//! let addr: ListenAddr = "[::1]:8080".parse()?;
//! assert_eq!(addr.to_string(), "[::1]:8080");
//! assert_eq!("/run/app.sock".parse::<ListenAddr>()?.to_string(), "unix:/run/app.sock");
//!
//! let peer: PeerAddr = "192.0.2.7:41234".parse()?;
//! assert_eq!(peer.ip(), Some([192, 0, 2, 7].into()));
//! # Ok::<(), axum_activation::Error>(())
//! ```
//!
//! A malformed address is an [`Error`](crate::Error) that says what is missing and how it is written:
//!
//! ```
//! use axum_activation::ListenAddr;
//!
//! let error = "127.0.0.1".parse::<ListenAddr>().unwrap_err();
//! assert!(error.is_invalid_address());
//! assert!(error.to_string().contains("the port is missing, write 127.0.0.1:8080"));
//! ```

mod asked;
mod listen;
mod peer;
#[cfg(feature = "handoff")]
mod wire;

pub(crate) use self::asked::AskedAddr;
pub use self::{
    listen::ListenAddr,
    peer::{PeerAddr, PeerCredentials, UnixPeer},
};
