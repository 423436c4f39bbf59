//! The stream of an HTTP/2 connection as hyper sees it: what passes is observed, so that the connection can move.
//!
//! Usually bytes go straight through, and are looked at on the way. While a move is being made, and until a new instance of
//! hyper knows enough of a connection that came, they go through a [`Session`] instead.
//!
//! At a quiet point the stream is taken out from under hyper, inside a read for which there is nothing. From then on all
//! that hyper asks for is pending, until the connection's loop drops it.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    depart::{Departing, Departure},
    io::Io,
    move_timer::MoveTimer,
    observe::http2::{
        ready::Taken,
        session::{Session, Step},
    },
    state::State,
};
use crate::drain::UnmovedReason;

/// How much of the library's output waits for the socket.
const MOST_OUT: usize = 64 * 1024;

/// The stream of an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Http2Io {
    /// `None` when it has been taken out.
    layer: Option<Box<Layer>>,
    departure: Departure,
}

impl Http2Io {
    /// A stream, and where it will be found when it is taken out from under hyper.
    pub(super) fn new(io: Io, session: Session) -> (Self, Departure) {
        let departure = Departure::default();
        let layer = Layer { io, session, is_flushed: true, has_ended: false, timer: MoveTimer::default() };
        (Self { layer: Some(Box::new(layer)), departure: departure.clone() }, departure)
    }

    /// A read while the connection leaves, or is fed.
    #[cold]
    #[inline(never)]
    fn poll_read_slowly(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(layer) = &mut self.layer else { return Poll::Pending };
        if layer.state().is_leaving() {
            layer.start_leaving(cx);
        }
        if !layer.session.is_fed() {
            return layer.poll_read(cx, buf);
        }
        match layer.poll_read_fed(cx, buf) {
            Poll::Ready(Some(read)) => return Poll::Ready(read),
            Poll::Ready(None) => return layer.poll_read(cx, buf),
            Poll::Pending if layer.is_quiet() => self.depart(cx),
            Poll::Pending => {
                if let Step::Stays(why) = layer.session.step() {
                    layer.state().stay(why);
                }
            }
        }
        Poll::Pending
    }

    /// Takes the stream out.
    #[cold]
    fn depart(&mut self, cx: &Context<'_>) {
        let Some(mut layer) = self.layer.take() else { return };
        let (record, held) = layer.session.depart();
        layer.state().move_outcome.depart();
        let Layer { mut io, timer, .. } = *layer;
        io.set_turn(timer.into_turn());
        self.departure.put(Departing { io, record, held });
        cx.waker().wake_by_ref();
    }
}

/// The stream, and what is known of what has passed.
#[derive(Debug)]
struct Layer {
    io: Io,
    session: Session,
    /// The last call of hyper on the write side was a flush, and everything is written.
    is_flushed: bool,
    /// The client has closed its side.
    has_ended: bool,
    timer: MoveTimer,
}

impl Layer {
    fn state(&self) -> &Arc<State> {
        self.io.state()
    }

    /// Lets the connection's loop know whether a stream is open.
    fn note_streams(&self) {
        self.state().note_streams(self.session.has_streams());
    }

    /// Begins a move, if one is asked for, when it is the connection's turn.
    #[cold]
    fn start_leaving(&mut self, cx: &mut Context<'_>) {
        let state = Arc::clone(self.io.state());
        if self.session.can_be_asked() && state.moves() {
            if state.route.is_encrypted() {
                self.session.stay(UnmovedReason::Tls);
            } else if state.route.sink.accepts().http2 {
                if self.timer.poll_turn(&state, cx).is_ready() {
                    self.session.ask();
                }
            } else {
                self.session.stay(UnmovedReason::NotTaken);
            }
        }
        if let Step::Stays(why) = self.session.step() {
            self.state().stay(why);
        }
    }

    /// A read of hyper that goes straight to it.
    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.note_read(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }

    /// Apart, so that a read is short where hyper has it inlined.
    #[inline(never)]
    fn note_read(&mut self, bytes: &[u8]) {
        self.session.observe_client(bytes);
        self.note_streams();
    }

    /// As [`note_read`](Self::note_read), of a write.
    #[inline(never)]
    fn note_written(&mut self, bufs: &[IoSlice<'_>], written: usize) {
        let mut left = written;
        for buf in bufs {
            let here = left.min(buf.len());
            self.session.observe_library(buf.get(..here).unwrap_or_default());
            left -= here;
        }
        self.note_streams();
    }

    /// A read of hyper that goes through the session; `None` if bytes may go straight to hyper from now on.
    fn poll_read_fed(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Option<io::Result<()>>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_out(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            match self.session.take(buf.remaining()) {
                Taken::Bytes(bytes) => {
                    buf.put_slice(&bytes);
                    return Poll::Ready(Some(Ok(())));
                }
                Taken::Pause => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Taken::Nothing if self.has_ended => return Poll::Ready(Some(Ok(()))),
                Taken::Nothing if self.session.is_over() => {
                    // The client may still write: a reset would fail what it may send again elsewhere.
                    let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
                    self.has_ended = true;
                    return Poll::Ready(Some(Ok(())));
                }
                Taken::Nothing => {}
            }
            match self.poll_client(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => {
                    // Not before: what has come meanwhile is not given to hyper all at once.
                    self.session.pass_if_transparent();
                    if !self.session.is_fed() {
                        return Poll::Ready(None);
                    }
                    self.session.hold_again();
                    ready!(self.poll_timer(cx));
                }
            }
        }
    }

    /// Reads of the client, if there is room for it.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.session.wants_client() {
            return Poll::Pending;
        }
        let mut space = [const { MaybeUninit::uninit() }; 16 * 1024];
        let mut buf = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            self.has_ended = true;
            self.session.end_client();
        } else {
            self.session.feed_client(buf.filled());
            self.note_streams();
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the connection can move. Nothing is read, so what hyper has is processed.
    fn is_quiet(&self) -> bool {
        let state = self.io.state();
        self.is_flushed
            && state.is_flushed()
            && !self.has_ended
            && self.session.is_quiet()
            && state.moves()
            && !state.is_busy()
            && !state.is_shut()
    }

    /// Writes what waits for the socket.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut has_written = false;
        loop {
            let out = self.session.out();
            if out.is_empty() {
                break;
            }
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.session.advance(written);
            has_written = true;
        }
        if has_written { Pin::new(&mut self.io).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Ready when a limit is over, and something has changed by that.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.timer.poll(&self.session, self.io.state(), cx)) {
            None => {}
            Some(Step::Holding) => self.session.stop_holding(),
            Some(Step::Asked) => self.session.stay(UnmovedReason::NoAcknowledgement),
            Some(_) => self.session.stay(UnmovedReason::OpenStreams),
        }
        Poll::Ready(())
    }

    /// Lets hyper read again where a flush has changed what a read brings.
    #[cold]
    fn note_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let was_open = self.session.wants_client();
        self.session.flushed();
        let is_late = self.session.step() == Step::Asked && !self.session.has_streams();
        if self.session.is_quiet() || self.session.wants_client() != was_open || self.session.is_over() || is_late {
            cx.waker().wake_by_ref();
        }
        self.poll_out(cx)
    }

    /// hyper writes into the session. Pending while the socket takes nothing.
    #[cold]
    fn poll_write_fed(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let is_full = self.session.out().len() >= MOST_OUT;
        if let (Poll::Pending, true) = (self.poll_out(cx)?, is_full) {
            return Poll::Pending;
        }
        // A frame may be as long as the client allows, which is up to 16 MiB.
        let buf = &buf[..buf.len().min(MOST_OUT)];
        self.session.feed_library(buf);
        self.note_streams();
        let _ = self.poll_out(cx)?;
        Poll::Ready(Ok(buf.len()))
    }

    /// Reads on while DATA waits for the client's `WINDOW_UPDATE`.
    #[cold]
    fn poll_waiting_data(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.has_waiting_data() && self.session.wants_client() && !self.has_ended {
            ready!(self.poll_out(cx))?;
            ready!(self.poll_client(cx))?;
        }
        self.poll_out(cx)
    }
}

impl AsyncRead for Http2Io {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(layer) = &mut this.layer else { return Poll::Pending };
        if layer.session.is_fed() || layer.state().is_leaving() {
            return this.poll_read_slowly(cx, buf);
        }
        layer.poll_read(cx, buf)
    }
}

impl AsyncWrite for Http2Io {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(layer) = &mut self.get_mut().layer else { return Poll::Pending };
        layer.is_flushed = false;
        if layer.session.is_fed() {
            return layer.poll_write_fed(cx, buf);
        }
        let written = ready!(Pin::new(&mut layer.io).poll_write(cx, buf))?;
        layer.note_written(&[IoSlice::new(buf)], written);
        Poll::Ready(Ok(written))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(layer) = &mut this.layer else { return Poll::Pending };
        if layer.session.is_fed() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return Pin::new(this).poll_write(cx, first);
        }
        layer.is_flushed = false;
        let written = ready!(Pin::new(&mut layer.io).poll_write_vectored(cx, bufs))?;
        layer.note_written(bufs, written);
        Poll::Ready(Ok(written))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.io.is_write_vectored())
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(layer) = &mut self.get_mut().layer else { return Poll::Pending };
        let is_fed = layer.session.is_fed();
        if is_fed {
            ready!(layer.poll_out(cx))?;
        }
        ready!(Pin::new(&mut layer.io).poll_flush(cx))?;
        let was_flushed = std::mem::replace(&mut layer.is_flushed, true);
        if is_fed && !was_flushed { layer.note_flushed(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(layer) = &mut self.get_mut().layer else { return Poll::Pending };
        if layer.session.is_fed() {
            ready!(layer.poll_waiting_data(cx))?;
        }
        Pin::new(&mut layer.io).poll_shutdown(cx)
    }
}
