//! What hyper's HTTP/1 runs on: the stream of a connection, or one on which a single exchange may move.
//!
//! One type, so that hyper is compiled for one: compiled for two, it is not inlined as well, and each request pays for it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{exchange_io::ExchangeIo, io::Io};

/// A stream that hyper can be taken off again.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Io),
    /// Boxed, so that the many that never upgrade hold no room for it.
    Exchange(Box<ExchangeIo>),
}

impl Transport {
    /// The stream within; `None` if it cannot be used for another request.
    pub(super) fn into_io(self) -> Option<Io> {
        match self {
            Self::Plain(io) => Some(io),
            Self::Exchange(exchange) => exchange.into_io(),
        }
    }
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Exchange(exchange) => Pin::new(exchange).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Exchange(exchange) => Pin::new(exchange).poll_write(cx, buf),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Exchange(exchange) => Pin::new(exchange).poll_write_vectored(cx, bufs),
        }
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Exchange(exchange) => exchange.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Exchange(exchange) => Pin::new(exchange).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Exchange(exchange) => Pin::new(exchange).poll_shutdown(cx),
        }
    }
}
