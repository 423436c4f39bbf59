//! TLS on a named socket: certificates, handshakes, and what a request can ask about its connection.
//!
//! [`Tls`] says where the certificates of a listener come from. [`Server`](crate::Server) takes it by
//! [`ServeOptions::tls`](crate::server::ServeOptions::tls), and for `axum::serve` there is
//! [`ActivatedListener::tls`](crate::ActivatedListener::tls).
//!
//! The program chooses the provider of cryptography: with the feature `tls-ring` or `tls-aws-lc-rs`, which compile one in, with
//! `CryptoProvider::install_default`, or with [`Tls::provider`]. No feature forces one.

mod certificates;
mod config;
mod handshake;
mod info;
mod listener;
mod pem_file;
mod provider;
mod stream;

pub use tokio_rustls::rustls;

#[cfg(feature = "server")]
pub(crate) use self::handshake::{Failed, accept, is_tls, refuse_clear_text};
pub use self::{
    config::{Tls, TlsBuilder},
    info::TlsInfo,
    listener::TlsListener,
    stream::TlsStream,
};
