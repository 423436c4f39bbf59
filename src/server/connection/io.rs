//! The stream of a connection as hyper sees it: bytes that were read ahead come first, and what hyper does is noted.
//!
//! Three things are noted that hyper does not say: that bytes came (request headers may have started), that its write
//! buffer is empty (the kernel has the whole response), and that it has closed its side. `state.rs` has them.
//!
//! # The last close
//!
//! A close while bytes of the client are unread, or still come, is a reset. A reset takes a response away that the
//! client has not read yet (RFC 9112, section 9.6). So where more may come, the close is done in two steps: this side
//! is shut down, and the client's is read and discarded until it closes too, is silent for 1 s, or 30 s are over.

use std::{
    future::Future,
    io::{self, IoSlice},
    os::fd::OwnedFd,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{client_stream::ClientStream, guard::ConnectionGuard, state::State, watch::Watch};
#[cfg(feature = "tls")]
use crate::tls::TlsStream;
use crate::{drain::CloseReason, listener::ActivatedStream};

/// How long a client may be silent after we have closed our side, before we close for good.
const CLOSE_SILENCE: Duration = Duration::from_secs(1);

/// How long it may take to close its side, however much it sends.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// A stream, the bytes that were read of it and are still to be parsed, and what was last done with it.
#[derive(Debug)]
pub(super) struct Io {
    stream: ClientStream,
    read_ahead: Bytes,
    /// The client has closed its side.
    ended: bool,
    /// More may come from the client after the last response: it speaks HTTP/2, or is in the middle of request headers.
    expects_more: bool,
    /// Our side is closed; until then the client's is read.
    closing: Option<Closing>,
    /// The abort of the drain, for the code that has the stream after an upgrade.
    aborted: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Below the stream, so that it is dropped later: the connection is counted as closed when the socket is.
    guard: ConnectionGuard,
}

/// The end of the time in which the client is to close its side.
#[derive(Debug)]
struct Closing {
    silence: Pin<Box<Sleep>>,
    limit: Instant,
}

impl Closing {
    fn start() -> Self {
        let now = Instant::now();
        Self { silence: Box::pin(sleep_until(now + CLOSE_SILENCE)), limit: now + CLOSE_LIMIT }
    }

    /// The client was not silent.
    fn extend(&mut self) {
        self.silence.as_mut().reset(self.limit.min(Instant::now() + CLOSE_SILENCE));
    }
}

impl Io {
    pub(super) fn new(stream: ActivatedStream, guard: ConnectionGuard) -> Self {
        Self::over(ClientStream::Clear(stream), guard)
    }

    /// A connection whose handshake is done.
    #[cfg(feature = "tls")]
    pub(super) fn encrypted(stream: TlsStream, guard: ConnectionGuard) -> Self {
        Self::over(ClientStream::Tls(Box::new(stream)), guard)
    }

    fn over(stream: ClientStream, guard: ConnectionGuard) -> Self {
        Self {
            stream,
            read_ahead: Bytes::new(),
            ended: false,
            expects_more: false,
            closing: None,
            aborted: None,
            guard,
        }
    }

    pub(super) fn state(&self) -> &Arc<State> {
        &self.guard.state
    }

    /// The client may send on its own account when we close.
    pub(super) fn expect_more(&mut self) {
        self.expects_more = true;
    }

    /// Puts back bytes that were read, before all that is still to be read.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        self.read_ahead =
            if self.read_ahead.is_empty() { bytes } else { [bytes, self.read_ahead.split_off(0)].concat().into() };
    }

    /// The connection's turn to leave, which ends when it has arrived.
    pub(super) fn set_turn(&mut self, turn: Option<OwnedSemaphorePermit>) {
        self.guard.set_turn(turn);
    }

    /// Takes the socket out of the runtime, with what was read of it and not used, and what is held for it.
    pub(super) fn into_parts(self) -> io::Result<(OwnedFd, Bytes, ConnectionGuard)> {
        Ok((self.stream.into_fd()?, self.read_ahead, self.guard))
    }

    /// Takes a connection in clear apart, for its handshake.
    #[cfg(feature = "tls")]
    pub(super) fn into_clear(self) -> Option<(ActivatedStream, Bytes, ConnectionGuard)> {
        match self.stream {
            ClientStream::Clear(stream) => Some((stream, self.read_ahead, self.guard)),
            ClientStream::Tls(_) => None,
        }
    }

    /// Closes a connection on which nothing is under way. Over TLS the client gets a `close_notify`.
    pub(super) async fn close_idle(mut self, watch: &mut Watch<'_, '_>) {
        self.guard.state.end(CloseReason::IdleClosed);
        if self.stream.announces_close() {
            watch.finish(pin!(timeout(CLOSE_SILENCE, self.stream.shutdown()))).await;
        }
    }

    /// Reads past what was put back, straight from the socket.
    ///
    /// Inlined always, and `poll_read` too: hyper asks several times a request, and most answers are that nothing has come.
    #[inline(always)]
    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() == before && buf.remaining() > 0 {
            self.ended = true;
            self.guard.state.note_ended();
        } else {
            self.guard.state.note_read();
        }
        Poll::Ready(Ok(()))
    }

    fn may_more_come(&mut self) -> bool {
        let state = &self.guard.state;
        let expected = state.is_closing() || state.had_body() || self.expects_more;
        if self.ended || state.may_upgrade() {
            return false;
        }
        // A Unix socket's client reads what was sent before it hears of a reset, so there the kernel is not asked.
        expected || (!self.stream.is_unix() && self.has_unread())
    }

    /// Ready when the client has closed its side too, or has had its time.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 4096];
        let mut heard = false;
        while !self.ended {
            match self.poll_stream(cx, &mut ReadBuf::new(&mut space)) {
                Poll::Ready(Ok(())) => heard = true,
                Poll::Ready(Err(_)) => break,
                Poll::Pending => return self.poll_silence(cx, heard),
            }
        }
        Poll::Ready(())
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>, heard: bool) -> Poll<()> {
        let closing = self.closing.get_or_insert_with(Closing::start);
        if heard {
            closing.extend();
        }
        closing.silence.as_mut().poll(cx)
    }

    /// Ready when the client has closed the connection, as far as that can be seen without reading past what it has sent.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.read_ahead.is_empty() || self.has_unread() {
            return Poll::Pending;
        }
        let mut space = [0; 64];
        let mut buf = ReadBuf::new(&mut space);
        ready!(self.poll_stream(cx, &mut buf))?;
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        self.unread(Bytes::copy_from_slice(buf.filled()));
        Poll::Pending
    }

    /// The connection is closed here, and not by code that has it after an upgrade.
    pub(super) fn close_as_own(&mut self) {
        self.guard.state.forget_upgrade();
        self.expect_more();
    }

    /// Whether bytes of the client have arrived that are not read yet.
    pub(super) fn has_unread(&mut self) -> bool {
        self.stream.has_unread()
    }

    fn take_read_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        let taken = self.read_ahead.split_to(self.read_ahead.len().min(buf.remaining()));
        buf.put_slice(&taken);
    }

    /// An error once the drain is aborted, for the code that has the stream after an upgrade.
    #[inline]
    pub(super) fn check_aborted(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.guard.state.may_upgrade() { self.poll_aborted(cx) } else { Ok(()) }
    }

    #[cold]
    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let State { route, .. } = &*self.guard.state;
        let aborted = self.aborted.get_or_insert_with(|| Box::pin(route.drain.shared_abort_token().cancelled_owned()));
        if aborted.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        self.guard.state.end(CloseReason::Aborted);
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the service has ended and the drain's deadline is over"))
    }
}

impl AsyncRead for Io {
    #[inline(always)]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_aborted(cx)?;
        if this.read_ahead.is_empty() {
            return this.poll_stream(cx, buf);
        }
        this.take_read_ahead(buf);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_aborted(cx)?;
        this.guard.state.note_flushed(false);
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_aborted(cx)?;
        this.guard.state.note_flushed(false);
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.guard.state.note_flushed(true);
        Poll::Ready(Ok(()))
    }

    /// Ends our side, and where more of the client's may be under way reads it, so that the close is no reset: a reset would
    /// take the response from a client that has not read it yet. Where nothing more is, the close that follows says all.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            this.guard.state.note_shut();
            let more = this.may_more_come();
            if !more && !this.guard.state.may_upgrade() && !this.stream.announces_close() {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !more {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_discard(cx).map(Ok)
    }
}
