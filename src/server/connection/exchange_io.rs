//! The stream of a connection on which a request is answered that another process may go on with.
//!
//! hyper gets that request from here, and nothing else before the handler has answered: so no byte of the client is in
//! a buffer of hyper when an upgrade hands the stream to the handler. In the next process the answer is checked and
//! swallowed, as the client has it. Then bytes pass. Of an upgraded stream they are followed, as far as it takes to know
//! that no message is open.
//!
//! The stream is dropped by the handler when it leaves. The connection departs then.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use hyper::body::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{depart::depart, io::Io, observed::Observed, refused, swallow::AnswerHead};
use crate::{
    idle_connection::{Protocol, Times},
    resume::{Exchange, NotMovable, Refusal, Stage},
};

/// The most bytes that are read at a time while a message is to come to its end.
const SMALL_READ: usize = 8 * 1024;

/// How long a resumed handler may take to answer where `header_timeout` is off.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A stream of which one exchange may move.
#[derive(Debug)]
pub(super) struct ExchangeIo {
    /// `None` when the connection has departed.
    io: Option<Io>,
    exchange: Arc<Exchange>,
    /// What is still to be delivered of the request headers.
    request: Bytes,
    /// The client has the answer of the process before; `None` when this one's is swallowed.
    swallowed: Option<AnswerHead>,
    /// Until then the resumed handler is to answer.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Of the reader that waits for the answer.
    gated: Option<Waker>,
    /// The bytes may pass, and are followed.
    observed: Option<Observed>,
    is_open: bool,
}

impl ExchangeIo {
    /// Sends the request to hyper, and then what follows it.
    pub(super) fn new(io: Io, exchange: Arc<Exchange>) -> Self {
        let request = exchange.request().map(|request| request.to_bytes().into()).unwrap_or_default();
        let is_resumed = exchange.is_resumed();
        let limit = is_resumed.then(|| io.state().route.limits.header_timeout.unwrap_or(ANSWER_LIMIT));
        Self {
            io: Some(io),
            exchange,
            request,
            swallowed: is_resumed.then(AnswerHead::default),
            deadline: limit.map(|limit| Box::pin(sleep(limit))),
            gated: None,
            observed: None,
            is_open: false,
        }
    }

    fn io(&mut self) -> io::Result<Pin<&mut Io>> {
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Delivers the request, and nothing more.
    fn take_request(&mut self, buf: &mut ReadBuf<'_>) {
        let taken = self.request.split_to(self.request.len().min(buf.remaining()));
        buf.put_slice(&taken);
    }

    /// Waits for the answer; only the end of the connection is noticed.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gated = Some(cx.waker().clone());
        if let Some(deadline) = &mut self.deadline {
            if deadline.as_mut().poll(cx).is_ready() && self.exchange.is_unapproved() {
                return Poll::Ready(Err(refusal(self.exchange.refuse(Refusal::NoAnswer))));
            }
        }
        let is_resumed = self.exchange.is_unapproved();
        let gone = ready!(self.io()?.poll_gone(cx));
        if is_resumed {
            return Poll::Ready(Err(refusal(self.exchange.refuse(Refusal::ClientGone))));
        }
        Poll::Ready(gone)
    }

    /// hyper has something to write: the answer, or in the next process what must not be sent.
    fn note_answer(&mut self) -> io::Result<()> {
        if self.is_open {
            return Ok(());
        }
        if self.exchange.is_unapproved() {
            return Err(refusal(self.exchange.refuse(Refusal::Malformed)));
        }
        if self.exchange.stage() != Stage::Answered {
            self.open();
        }
        Ok(())
    }

    /// From now on bytes of the client pass.
    fn open(&mut self) {
        self.is_open = true;
        self.deadline = None;
        if let Some(gated) = self.gated.take() {
            gated.wake();
        }
    }

    /// hyper has written all of an answer that switches protocols: it reads no more, and the handler gets the stream.
    fn note_upgraded(&mut self) {
        if self.is_open || self.exchange.stage() != Stage::Answered || self.exchange.is_unapproved() {
            return;
        }
        self.observed = self.exchange.upgrade().map(|answer| Observed::new(&answer, Arc::clone(&self.exchange)));
        self.exchange.note_upgraded();
        self.open();
    }

    /// Takes what the client has already of `buf`; `None` when all of that has passed.
    fn swallow(&mut self, buf: &[u8]) -> Option<usize> {
        let head = self.swallowed.as_mut()?;
        let taken = head.feed(buf);
        if head.has_ended() {
            self.swallowed = None;
        }
        (taken > 0).then_some(taken)
    }

    fn poll_read_observed(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            // It would look like the end of the stream.
            return Poll::Ready(Ok(()));
        }
        let Some(limit) = self.observed.as_ref().and_then(Observed::limit) else {
            let before = buf.filled().len();
            let polled = self.io()?.poll_read(cx, buf);
            return self.note_read(polled, buf.filled().get(before..).unwrap_or_default());
        };
        if limit == 0 {
            self.io()?.check_aborted(cx)?;
            if !self.exchange.hold_reader(cx.waker()) {
                return self.poll_read_observed(cx, buf);
            }
            return self.note_read(Poll::Pending, &[]);
        }
        let mut space = [0; SMALL_READ];
        let len = limit.min(SMALL_READ).min(buf.remaining());
        let mut small = ReadBuf::new(space.get_mut(..len).unwrap_or_default());
        let polled = self.io()?.poll_read(cx, &mut small);
        buf.put_slice(small.filled());
        self.note_read(polled, small.filled())
    }

    fn note_read(&mut self, polled: Poll<io::Result<()>>, read: &[u8]) -> Poll<io::Result<()>> {
        if let Some(observed) = &mut self.observed {
            match &polled {
                Poll::Pending => observed.note_waits(),
                Poll::Ready(Ok(())) if !read.is_empty() => observed.note_delivered(read),
                Poll::Ready(_) => self.exchange.note_not_movable(NotMovable::Closing),
            }
        }
        polled
    }

    /// The stream, with what is to be read first; `None` if it cannot be used for another request.
    pub(super) fn into_io(mut self) -> Option<Io> {
        if self.exchange.is_unapproved() || self.swallowed.is_some() {
            return None;
        }
        let mut io = self.io.take()?;
        if !self.request.is_empty() {
            io.unread(std::mem::take(&mut self.request));
        }
        Some(io)
    }
}

impl AsyncRead for ExchangeIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match () {
            () if !this.request.is_empty() => {
                this.take_request(buf);
                Poll::Ready(Ok(()))
            }
            () if !this.is_open => this.poll_gate(cx),
            () if this.observed.is_some() => this.poll_read_observed(cx, buf),
            () => this.io()?.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ExchangeIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.note_answer()?;
        if let Some(taken) = this.swallow(buf) {
            return Poll::Ready(Ok(taken));
        }
        let written = ready!(this.io()?.poll_write(cx, buf))?;
        if let Some(observed) = &mut this.observed {
            observed.note_written(buf.get(..written).unwrap_or_default());
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.swallowed.is_some() || !self.is_open {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
            return self.poll_write(cx, first);
        }
        let this = self.get_mut();
        let written = ready!(this.io()?.poll_write_vectored(cx, bufs))?;
        if let Some(observed) = &mut this.observed {
            let mut left = written;
            for buf in bufs {
                let len = left.min(buf.len());
                observed.note_written(buf.get(..len).unwrap_or_default());
                left -= len;
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(Io::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.io()?.poll_flush(cx))?;
        this.note_upgraded();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.exchange.is_unapproved() {
            // It is closed otherwise, when this is dropped.
            return Poll::Ready(Ok(()));
        }
        if this.observed.is_some() {
            this.exchange.note_not_movable(NotMovable::Closing);
        }
        this.io()?.poll_shutdown(cx)
    }
}

/// What the connection becomes with its stream: it departs if the handler has left, is refused if a resumed handler has not gone on, and
/// else it is closed.
impl Drop for ExchangeIo {
    fn drop(&mut self) {
        let Some(io) = self.io.take() else { return };
        if let Some(record) = self.exchange.depart() {
            let times = Times { opened: io.state().times.opened, ..Times::now() };
            return depart(io, Protocol::Resumable(Box::new(record)), times);
        }
        if self.exchange.is_unapproved() {
            return refused::close(io, &self.exchange);
        }
        if self.exchange.stage() == Stage::Upgraded {
            io.state().note_unmoved(self.exchange.unmoved());
        }
    }
}

fn refusal(reason: Refusal) -> io::Error {
    io::Error::other(reason.to_string())
}
