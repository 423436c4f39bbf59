//! The handshake of one connection, and why it fails.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rustls::{AlertDescription, Error as TlsError, ServerConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use super::{
    config::Tls,
    stream::{Tap, TlsStream},
};
use crate::{drain::HandshakeFailure, listener::ActivatedStream};

/// The first byte of a record that begins a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// The answer to a request in clear. nginx has 400 here as well.
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 53\r\n\r\n\
    this is a TLS port: use https:// in place of http://\n";

/// How long a client may take to make room for that.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Most client hellos fit.
const FIRST_READ: usize = 1024;

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
    accept_with(tls.config(true), stream, first, deadline).await
}

async fn accept_with(
    config: Arc<ServerConfig>,
    stream: ActivatedStream,
    first: Bytes,
    deadline: Instant,
) -> Result<TlsStream, Failed> {
    let accept = TlsAcceptor::from(config).accept(Tap::new(first, stream));
    match timeout_at(deadline, accept).await {
        Ok(Ok(stream)) => Ok(TlsStream::new(stream)),
        Ok(Err(error)) => Err(Failed::of(error)),
        Err(_) => Err(Failed::new(HandshakeFailure::Timeout)),
    }
}

/// Answers a client that does not speak TLS, if it speaks HTTP/1, and closes its side of the connection.
///
/// # Cancel safety
///
/// Dropped, the client may have a part of the answer.
pub(crate) async fn refuse_clear_text(stream: &mut (impl AsyncWrite + Unpin), first: &[u8]) {
    if !first.first().is_some_and(u8::is_ascii_uppercase) {
        return;
    }
    let answer = async {
        if stream.write_all(BAD_REQUEST).await.is_ok() {
            let _ = stream.shutdown().await;
        }
    };
    let _ = timeout(WRITE_LIMIT, answer).await;
}

/// All of it for one connection, within the limit of `tls`.
pub(super) async fn serve(tls: &Tls, speaks_http2: bool, mut stream: ActivatedStream) -> Result<TlsStream, Failed> {
    let deadline = Instant::now() + tls.limit();
    let mut first = BytesMut::with_capacity(FIRST_READ);
    match timeout_at(deadline, stream.read_buf(&mut first)).await {
        Err(_) => return Err(Failed::new(HandshakeFailure::Timeout)),
        Ok(Err(_) | Ok(0)) => return Err(Failed::new(HandshakeFailure::Closed)),
        Ok(Ok(_)) => {}
    }
    if !is_tls(&first) {
        refuse_clear_text(&mut stream, &first).await;
        return Err(Failed::new(HandshakeFailure::ClearText));
    }
    accept_with(tls.config(speaks_http2), stream, first.freeze(), deadline).await
}

/// A handshake that has failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: HandshakeFailure,
    error: Option<io::Error>,
}

impl Failed {
    fn new(reason: HandshakeFailure) -> Self {
        Self { reason, error: None }
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
        TlsError::PeerIncompatible(_) | TlsError::NoApplicationProtocol => HandshakeFailure::Incompatible,
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
