//! Addresses: where to listen, and who is at the other end.
//!
//! ```
//! use axum_activation::ListenAddr;
//!
//! let addr: ListenAddr = "[::1]:8080".parse()?;
//! assert_eq!(addr.to_string(), "[::1]:8080");
//! assert_eq!("/run/app.sock".parse::<ListenAddr>()?.to_string(), "unix:/run/app.sock");
//! # Ok::<(), axum_activation::Error>(())
//! ```

mod asked;
mod listen;
mod peer;
mod wire;

pub(crate) use self::asked::AskedAddr;
pub use self::{
    listen::ListenAddr,
    peer::{PeerAddr, PeerCredentials, UnixPeer},
};
