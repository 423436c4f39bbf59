//! The stream of a connection whose handshake is done, and what is below it.

use std::{
    fmt,
    io::{self, BufRead, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server;

use super::info::TlsInfo;
use crate::listener::ActivatedStream;

/// A connection over TLS, after its handshake: what is written to it is encrypted, and what is read of it is decrypted.
///
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) sends the `close_notify` that lets the client tell an end from a cut
/// (RFC 8446, section 6.1).
pub struct TlsStream {
    stream: server::TlsStream<Tap>,
}

impl TlsStream {
    pub(super) fn new(stream: server::TlsStream<Tap>) -> Self {
        Self { stream }
    }

    /// What the client and the server have agreed upon.
    ///
    /// ```
    /// use axum_activation::tls::TlsStream;
    ///
    /// fn speaks_http2(stream: &TlsStream) -> bool {
    ///     stream.info().alpn_protocol() == Some(b"h2")
    /// }
    /// # let _ = speaks_http2;
    /// ```
    #[must_use]
    pub fn info(&self) -> TlsInfo {
        TlsInfo::of(self.stream.get_ref().1)
    }

    /// The connection below TLS.
    ///
    /// ```
    /// use axum_activation::tls::TlsStream;
    ///
    /// fn is_local(stream: &TlsStream) -> bool {
    ///     stream.connection().as_unix().is_some()
    /// }
    /// # let _ = is_local;
    /// ```
    #[must_use]
    pub fn connection(&self) -> &ActivatedStream {
        &self.stream.get_ref().0.stream
    }

    /// Whether bytes of the client have been decrypted that are not read yet.
    #[cfg(feature = "server")]
    pub(crate) fn has_decrypted(&mut self) -> bool {
        self.stream.get_mut().1.reader().fill_buf().is_ok_and(|bytes| !bytes.is_empty())
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("connection", self.connection()).finish_non_exhaustive()
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection().as_fd()
    }
}

impl AsyncRead for TlsStream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The connection below rustls: what was read of it before it was known to be TLS comes first.
#[derive(Debug)]
pub(super) struct Tap {
    read_ahead: Bytes,
    stream: ActivatedStream,
}

impl Tap {
    pub(super) fn new(read_ahead: Bytes, stream: ActivatedStream) -> Self {
        Self { read_ahead, stream }
    }
}

impl AsyncRead for Tap {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_ahead.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let length = this.read_ahead.len().min(buf.remaining());
        buf.put_slice(&this.read_ahead.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
