//! The stream to the client: in clear, or over TLS.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(feature = "tls")]
use crate::tls::TlsStream;
use crate::{listener::ActivatedStream, sys::socket};

/// What a connection is read from and written to.
#[derive(Debug)]
pub(super) enum ClientStream {
    Clear(ActivatedStream),
    /// Boxed, so that all others are small.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl ClientStream {
    /// Whether a close must be announced, as the client takes a connection that just ends for one that was cut.
    pub(super) fn announces_close(&self) -> bool {
        match self {
            Self::Clear(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
        }
    }

    /// Whether bytes of the client have arrived that are not read yet.
    pub(super) fn has_unread(&mut self) -> bool {
        match self {
            Self::Clear(stream) => socket::unread(stream.as_fd()) > 0,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.has_decrypted() || socket::unread(stream.as_fd()) > 0,
        }
    }

    /// Whether the client reads what was sent before it hears of a reset.
    pub(super) fn is_unix(&self) -> bool {
        match self {
            Self::Clear(stream) => stream.as_unix().is_some(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.connection().as_unix().is_some(),
        }
    }

    /// Takes the socket out of the runtime.
    ///
    /// # Errors
    ///
    /// It speaks TLS, or the system refuses.
    pub(super) fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::Clear(stream) => stream.into_fd(),
            #[cfg(feature = "tls")]
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Calls one method on the stream within.
macro_rules! each {
    ($self:ident . $method:ident ( $($arg:expr),* )) => {
        match $self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).$method($($arg),*),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(&mut **stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for ClientStream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.poll_write(cx, buf))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.poll_write_vectored(cx, bufs))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Clear(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.poll_flush(cx))
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.poll_shutdown(cx))
    }
}
