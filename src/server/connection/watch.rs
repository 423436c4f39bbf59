//! What may end a connection from outside: the drain, its age, idleness, slow request headers. It costs a few loads a
//! request.
//!
//! While nothing is new, a poll looks at flags alone: the tokens and a timer would take a lock or touch memory that all
//! connections share. Their wakers are left once. Idleness and age are looked after from outside (see the reaper), so
//! that a timer is armed only for headers that are being read and for a connection that is about to be closed.
//!
//! # Two races with hyper's HTTP/1
//!
//! - A body that another task drops ends a request without a poll of hyper. The state is then idle, and hyper has not
//!   seen it. So an idle connection is taken only if no request was alive before hyper was polled and none was after,
//!   and none in between.
//! - hyper does not ask for the next request once it could write the last response, although it may have read that
//!   request before. So it is polled once more after a flush.

use std::{
    error::Error,
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFuture;

use super::{
    super::{limits::Limits, reaper::Registration},
    exchanges,
    state::State,
};
use crate::{
    drain::{CloseReason, UnmovedReason},
    idle_connection::Times,
    log,
};

/// How long a client of HTTP/2 may take to answer a ping, at least: what it sends meanwhile would be lost.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// The longest keep-alive grace: an `Instant` cannot take any duration.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Why to stop driving a connection.
#[derive(Debug)]
pub(super) enum Stop<T> {
    /// It ended by itself.
    Ended(T),
    /// It is to end when it can: the drain has started or it has reached its age. HTTP/2 sends GOAWAY, once.
    Closing,
    /// It has been idle for as long as it may.
    Idle,
    /// The next process is to have it: a successor, or one that finds it in the fd store. Nothing of it is under way here but perhaps the
    /// beginning of a head.
    Move,
    /// A head has not come to its end in time.
    HeaderTimeout,
    /// hyper is to start anew with the request that it has just read: one whose answer another process may go on with.
    Restart,
    /// It is to be dropped at once.
    Abort,
}

/// Watches one connection, through all its protocols.
#[derive(Debug)]
pub(super) struct Watch<'a, 'd> {
    state: &'a Arc<State>,
    started: Pin<&'a mut WaitForCancellationFuture<'d>>,
    aborted: Pin<&'a mut WaitForCancellationFuture<'d>>,
    /// Whether the wakers are left with the tokens and the reaper; and where with the latter.
    registered: bool,
    registration: Option<Registration>,
    /// Armed when there is a deadline, and only then allocated.
    timer: Option<Pin<Box<Sleep>>>,
    /// A head is being read, since then.
    headers_since: Option<Instant>,
    /// The connection is closing and was last seen idle after so many requests: until then it may send one more.
    keep_alive_grace: Option<(Instant, u32)>,
    /// HTTP/2: its reads are no request headers.
    is_http2: bool,
    /// HTTP/2: it was stopped with `Closing`.
    is_going_away: bool,
}

impl<'a, 'd> Watch<'a, 'd> {
    pub(super) fn new(
        state: &'a Arc<State>,
        started: Pin<&'a mut WaitForCancellationFuture<'d>>,
        aborted: Pin<&'a mut WaitForCancellationFuture<'d>>,
    ) -> Self {
        Self {
            state,
            started,
            aborted,
            registered: false,
            registration: None,
            timer: None,
            headers_since: state.times.headers_since,
            keep_alive_grace: None,
            is_http2: false,
            is_going_away: false,
        }
    }

    /// From now on HTTP/2 is spoken.
    pub(super) fn note_http2(&mut self) {
        self.is_http2 = true;
    }

    /// Drives `connection` until there is a reason to stop; it can be driven on.
    pub(super) fn drive<F: Future>(&mut self, mut connection: Pin<&mut F>) -> impl Future<Output = Stop<F::Output>> {
        poll_fn(move |cx| match connection.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Stop::Ended(output)),
            Poll::Pending => self.poll(cx),
        })
    }

    /// As [`drive`](Self::drive), of HTTP/1: hyper is stopped only where it has seen all that has happened.
    pub(super) fn drive_http1<F: Future>(
        &mut self,
        mut connection: Pin<&mut F>,
    ) -> impl Future<Output = Stop<F::Output>> {
        poll_fn(move |cx| {
            loop {
                let (calls, was_flushed) = (self.state.calls_if_quiet(), self.state.is_flushed());
                if let Poll::Ready(output) = connection.as_mut().poll(cx) {
                    return Poll::Ready(Stop::Ended(output));
                }
                match self.poll(cx) {
                    // hyper may not have heard yet of the end of a body that was dropped just now, elsewhere.
                    Poll::Ready(Stop::Idle | Stop::Move) if !self.was_quiet(calls) => {}
                    // hyper 1.12 does not ask for the next request once it could write the last response: it may have read that request before.
                    Poll::Pending if !was_flushed && self.state.is_flushed() => {}
                    polled => return polled,
                }
            }
        })
    }

    /// Whether no request has been answered since there were so many `calls`, and none was being answered then.
    fn was_quiet(&self, calls: Option<u32>) -> bool {
        calls.is_some() && calls == self.state.calls_if_quiet()
    }

    /// Drives what ends the connection; only an abort stops that.
    pub(super) async fn finish<F: Future>(&mut self, mut closing: Pin<&mut F>) {
        poll_fn(|cx| match closing.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => self.aborted.as_mut().poll(cx),
        })
        .await;
    }

    /// Notes how hyper ended the connection.
    pub(super) fn note_ended(&self, ended: hyper::Result<()>) {
        let Err(error) = ended else { return };
        log::debug!(%error, "a connection ended with an error");
        // A client that resets an idle connection has every answer, or does not want it: health checks and browsers do so.
        let is_idle = if self.is_http2 { !self.state.is_busy() } else { self.state.is_idle() };
        let left = is_idle && error.source().and_then(|cause| cause.downcast_ref()).is_some_and(is_gone);
        self.state.end(if left { CloseReason::Finished } else { CloseReason::Error });
    }

    /// Whether a request has asked for an upgrade.
    pub(super) fn may_be_upgraded(&self) -> bool {
        self.state.may_upgrade()
    }

    /// As [`note_ended`](Self::note_ended), and why it did not move. hyper has given an upgraded stream away.
    pub(super) fn note_ended_http1(&self, ended: hyper::Result<()>, is_upgraded: bool) {
        if is_upgraded {
            self.state.note_unmoved(UnmovedReason::NotResumable);
        } else if ended.is_ok() {
            self.note_unread_body();
        }
        self.note_ended(ended);
    }

    /// Notes that a connection which has said its last word did so for a body that was not read.
    fn note_unread_body(&self) {
        if self.state.has_unread_body() {
            self.state.note_unmoved(UnmovedReason::RequestBody);
        }
    }

    /// Notes that the connection is about to be dropped at the deadline; one that is idle, or has said its last word, then
    /// loses nothing.
    pub(super) fn note_aborted(&self) {
        if !self.is_http2 && self.state.is_shut() {
            self.note_unread_body();
        }
        self.state.end(match () {
            () if self.state.is_shut() => CloseReason::Finished,
            () if self.is_idle() => CloseReason::IdleClosed,
            () => CloseReason::Aborted,
        });
    }

    #[inline]
    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<Stop<T>> {
        let nothing_new =
            self.registered && !self.is_reading_headers() && self.headers_since.is_none() && !self.state.is_asked();
        if nothing_new && !self.state.is_leaving() {
            return Poll::Pending;
        }
        self.poll_slowly(cx)
    }

    #[cold]
    fn poll_slowly<T>(&mut self, cx: &mut Context<'_>) -> Poll<Stop<T>> {
        if !self.registered {
            self.register(cx);
        }
        // Both may be polled again after they are ready.
        let _ = self.started.as_mut().poll(cx);
        if self.state.is_leaving_now() && self.aborted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Stop::Abort);
        }
        loop {
            let now = Instant::now();
            self.note_headers(now);
            if let Some(stop) = self.check(now) {
                return Poll::Ready(stop);
            }
            if self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Leaves the waker where it is needed. A task keeps one waker all its life.
    fn register(&mut self, cx: &Context<'_>) {
        self.registered = true;
        self.state.note_waker(cx.waker());
        self.registration =
            self.state.route.reaper.register(Arc::clone(self.state) as _, cx.waker().clone(), &self.state.times);
    }

    fn limits(&self) -> &'a Limits {
        &self.state.route.limits
    }

    #[inline]
    fn is_reading_headers(&self) -> bool {
        !self.is_http2 && self.state.is_reading_headers()
    }

    fn is_idle(&self) -> bool {
        if self.is_http2 { self.state.is_idle_http2() } else { self.state.is_idle() }
    }

    fn note_headers(&mut self, now: Instant) {
        if !self.is_reading_headers() {
            self.headers_since = None;
        } else if self.headers_since.is_none() {
            self.headers_since = Some(now);
        }
    }

    /// Until when the head that is being read is to be complete.
    fn header_deadline(&self) -> Option<Instant> {
        self.headers_since?.checked_add(self.limits().header_timeout?)
    }

    /// Since when the limits of a connection run that is about to leave: they go on in the next process.
    pub(super) fn times(&self) -> Times {
        let Times { opened, quiet_since, .. } = self.state.times;
        let quiet_since = match self.registration {
            Some(registration) => self.state.route.reaper.quiet_since(registration),
            None if self.state.calls() == 0 => quiet_since,
            None => Instant::now(),
        };
        Times { opened, quiet_since, headers_since: self.headers_since }
    }

    /// What is due.
    fn check<T>(&mut self, now: Instant) -> Option<Stop<T>> {
        if self.state.take_restart() {
            return Some(Stop::Restart);
        }
        if self.header_deadline().is_some_and(|deadline| deadline <= now) {
            return Some(Stop::HeaderTimeout);
        }
        if self.is_http2 && self.state.move_outcome.has_departed() {
            // The sink returns it if connections have stopped to move meanwhile.
            return Some(Stop::Move);
        }
        if self.state.is_leaving() {
            // A stream that is held moves at any age, as an upgraded connection does: its client waits for more.
            let moves = self.state.moves() || (self.state.route.drain.moves() && exchanges::holds_stream(self.state));
            if moves && !self.state.move_outcome.stays() {
                return (!self.is_http2 && self.state.is_movable()).then_some(Stop::Move);
            }
            let starts_going = self.is_http2 && !std::mem::replace(&mut self.is_going_away, true);
            return if starts_going { Some(Stop::Closing) } else { self.check_keep_alive_grace(now) };
        }
        // What has started since it was found idle is not idle: a head has its own limit, and a response is to be sent.
        (self.state.take_close_idle() && self.is_idle()).then_some(Stop::Idle)
    }

    fn check_keep_alive_grace<T>(&mut self, now: Instant) -> Option<Stop<T>> {
        if !self.is_idle() {
            self.keep_alive_grace = None;
            return None;
        }
        let calls = self.state.calls();
        let until = match self.keep_alive_grace {
            Some((until, since)) if since == calls => until,
            _ => now + self.keep_alive_grace_limit(),
        };
        self.keep_alive_grace = Some((until, calls));
        (until <= now).then_some(Stop::Idle)
    }

    fn keep_alive_grace_limit(&self) -> Duration {
        let keep_alive_grace = self.limits().keep_alive_grace;
        // A client of HTTP/2 ends by itself when it has answered the ping that goes with a GOAWAY.
        let limit = if self.is_http2 {
            keep_alive_grace.max(PING_LIMIT)
        } else {
            keep_alive_grace.saturating_add(self.lame_duck_left())
        };
        limit.min(FOREVER)
    }

    /// Who may still connect may also be about to send on a connection that it has.
    fn lame_duck_left(&self) -> Duration {
        let drain = &self.state.route.drain;
        let accepts = drain.has_started() && !drain.has_successor();
        if accepts { self.limits().lame_duck.saturating_sub(drain.elapsed()) } else { Duration::ZERO }
    }

    /// Ready when the nearest deadline is over, pending for ever where there is none.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let keep_alive_grace = self.keep_alive_grace.map(|(until, _)| until);
        let Some(nearest) = [self.header_deadline(), keep_alive_grace].into_iter().flatten().min() else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(nearest)));
        if timer.deadline() != nearest {
            timer.as_mut().reset(nearest);
        }
        timer.as_mut().poll(cx)
    }
}

impl Drop for Watch<'_, '_> {
    fn drop(&mut self) {
        if let Some(registration) = self.registration {
            self.state.route.reaper.deregister(registration);
        }
    }
}

/// Whether the client has closed the connection. Over TLS it may do so without a `close_notify`, which is an error of rustls.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
}
