//! The handshake of one connection, and why it fails.

use std::{fmt, io};

use bytes::Bytes;
use rustls::{AlertDescription, Error as TlsError};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::{
    config::Tls,
    stream::{Tap, TlsStream},
};
use crate::{drain::HandshakeFailure, listener::ActivatedStream};

/// The first byte of a record that begins a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// Whether a client that begins with these bytes speaks TLS; they are not empty.
pub(crate) fn is_tls(first: &[u8]) -> bool {
    first.first() == Some(&HANDSHAKE)
}

/// Does the handshake of a connection of which `first` has been read, until `deadline`.
///
/// # Errors
///
/// Why it failed. The client has got an alert that says so, where rustls sends one.
///
/// # Cancel safety
///
/// Dropped, the connection is closed.
pub(crate) async fn accept(
    tls: &Tls,
    stream: ActivatedStream,
    first: Bytes,
    deadline: Instant,
) -> Result<TlsStream, Failed> {
    let accept = TlsAcceptor::from(tls.config()).accept(Tap::new(first, stream));
    match timeout_at(deadline, accept).await {
        Ok(Ok(stream)) => Ok(TlsStream::new(stream)),
        Ok(Err(error)) => Err(Failed::of(error)),
        Err(_) => Err(Failed::timeout()),
    }
}

/// A handshake that has failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: HandshakeFailure,
    error: Option<io::Error>,
}

impl Failed {
    pub(crate) fn timeout() -> Self {
        Self { reason: HandshakeFailure::Timeout, error: None }
    }

    fn of(error: io::Error) -> Self {
        Self { reason: reason(&error), error: Some(error) }
    }
}

fn reason(error: &io::Error) -> HandshakeFailure {
    let Some(tls) = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>()) else {
        return HandshakeFailure::Closed;
    };
    match tls {
        TlsError::PeerIncompatible(_) => HandshakeFailure::Incompatible,
        TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented => HandshakeFailure::ClientCertificate,
        TlsError::AlertReceived(AlertDescription::CloseNotify | AlertDescription::UserCanceled) => {
            HandshakeFailure::Closed
        }
        TlsError::AlertReceived(_) => HandshakeFailure::Alert,
        _ => HandshakeFailure::Malformed,
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{}: {error}", self.reason),
            None => self.reason.fmt(f),
        }
    }
}
