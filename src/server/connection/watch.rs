//! What may end a connection from outside: the drain, its age, a timer. Costs a few loads a request.
//!
//! Timers are lazy. One `Sleep` a connection is armed for the nearest deadline and never moved by a request: when it fires,
//! the number of requests tells whether anything happened meanwhile. While nothing is new, a poll looks at flags alone:
//! polling the tokens or the sleep would take a lock or touch memory that all connections share.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFuture;

use super::{super::limits::Limits, state::State};
use crate::drain::Ending;

/// An idle timeout is looked at this many times, once a connection was active.
const TICKS: u32 = 8;

/// Why to stop driving a connection.
#[derive(Debug)]
pub(super) enum Stop<T> {
    /// It ended by itself.
    Ended(T),
    /// It is to end when it can: the drain has begun or it has reached its age. Told once, to who asks for it.
    Closing,
    /// It has been idle for as long as it may.
    Idle,
    /// A head has not come to its end in time.
    HeadTimeout,
    /// It is to be dropped at once.
    Cut,
}

/// Watches one connection, through all its protocols.
#[derive(Debug)]
pub(super) struct Watch<'a, 'd> {
    state: &'a State,
    limits: &'a Limits,
    sleep: Pin<&'a mut Sleep>,
    begun: Pin<&'a mut WaitForCancellationFuture<'d>>,
    cut: Pin<&'a mut WaitForCancellationFuture<'d>>,
    /// The wakers are with the sleep and the tokens.
    registered: bool,
    /// A head is being read, until then.
    head: Option<Instant>,
    /// When to look next whether the connection is idle, and how often still.
    tick: Option<Instant>,
    ticks_left: u32,
    calls_at_tick: u32,
    /// When it is old enough to end.
    age: Option<Instant>,
    /// Since it was last seen idle while closing: until then, and after how many requests.
    linger: Option<(Instant, u32)>,
    /// HTTP/2: its reads are not heads, and it is told of `Closing`.
    is_http2: bool,
    told: bool,
}

impl<'a, 'd> Watch<'a, 'd> {
    pub(super) fn new(
        state: &'a State,
        sleep: Pin<&'a mut Sleep>,
        begun: Pin<&'a mut WaitForCancellationFuture<'d>>,
        cut: Pin<&'a mut WaitForCancellationFuture<'d>>,
    ) -> Self {
        let limits = &state.route.limits;
        Self {
            state,
            limits,
            sleep,
            begun,
            cut,
            registered: false,
            head: None,
            tick: None,
            ticks_left: 1,
            calls_at_tick: 0,
            age: None,
            linger: None,
            is_http2: false,
            told: false,
        }
    }

    /// From now on HTTP/2 is spoken.
    pub(super) fn note_http2(&mut self) {
        self.is_http2 = true;
    }

    /// Drives `connection` until there is a reason to stop; it can be driven on.
    pub(super) async fn drive<F: Future>(&mut self, mut connection: Pin<&mut F>) -> Stop<F::Output> {
        poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Stop::Ended(output)),
            Poll::Pending => self.poll(cx),
        })
        .await
    }

    /// Notes how hyper ended the connection.
    pub(super) fn note_ended(&self, ended: hyper::Result<()>) {
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended with an error");
            self.state.end(Ending::Error);
        }
    }

    #[inline]
    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<Stop<T>> {
        let nothing_new = self.registered && self.has_head() == self.head.is_some() && !self.sleep.is_elapsed();
        if nothing_new && !self.state.is_closing() {
            return Poll::Pending;
        }
        self.poll_slowly(cx)
    }

    #[cold]
    fn poll_slowly<T>(&mut self, cx: &mut Context<'_>) -> Poll<Stop<T>> {
        let now = Instant::now();
        if !self.registered {
            self.register(now);
        }
        // Both futures may be polled again after they are ready.
        let _ = self.begun.as_mut().poll(cx);
        if self.state.is_closing() && self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Stop::Cut);
        }
        self.note_head(now);
        if let Some(stop) = self.check(now) {
            return Poll::Ready(stop);
        }
        self.arm(cx)
    }

    /// Sets the first deadlines.
    fn register(&mut self, now: Instant) {
        self.registered = true;
        self.tick = self.limits.idle_timeout.and_then(|timeout| now.checked_add(timeout));
        self.age = self.limits.max_age.and_then(|max| now.checked_add(max.draw()));
    }

    fn has_head(&self) -> bool {
        !self.is_http2 && !self.state.is_busy() && self.state.has_begun_head()
    }

    fn note_head(&mut self, now: Instant) {
        self.head = match (self.has_head(), self.head) {
            (false, _) => None,
            (true, Some(deadline)) => Some(deadline),
            (true, None) => Some(later(now, self.limits.header_timeout)),
        };
    }

    /// What is due.
    fn check<T>(&mut self, now: Instant) -> Option<Stop<T>> {
        if self.head.is_some_and(|deadline| deadline <= now) {
            return Some(Stop::HeadTimeout);
        }
        if self.age.is_some_and(|age| age <= now) {
            self.age = None;
            self.state.retire();
        }
        if self.state.is_closing() {
            return self.check_closing(now);
        }
        self.tick.is_some_and(|tick| tick <= now).then(|| self.check_tick(now)).flatten()
    }

    fn check_closing<T>(&mut self, now: Instant) -> Option<Stop<T>> {
        self.tick = None;
        if self.is_http2 {
            return (!std::mem::replace(&mut self.told, true)).then_some(Stop::Closing);
        }
        if !self.state.is_idle() {
            self.linger = None;
            return None;
        }
        match self.linger {
            Some((until, calls)) if calls == self.state.calls() => (until <= now).then_some(Stop::Idle),
            _ => {
                self.linger = Some((now + self.limits.linger, self.state.calls()));
                self.limits.linger.is_zero().then_some(Stop::Idle)
            }
        }
    }

    /// Quiet all the time, or quiet for as many ticks as make the timeout: idle.
    fn check_tick<T>(&mut self, now: Instant) -> Option<Stop<T>> {
        let timeout = self.limits.idle_timeout?;
        let calls = self.state.calls();
        if self.state.is_busy() || calls != self.calls_at_tick {
            self.calls_at_tick = calls;
            self.ticks_left = TICKS;
        } else {
            self.ticks_left -= 1;
        }
        if self.ticks_left == 0 {
            // A head that is being read has its own limit.
            self.ticks_left = 1;
            if self.head.is_none() {
                return Some(Stop::Idle);
            }
        }
        self.tick = Some(now + timeout / TICKS);
        None
    }

    /// Waits for the nearest deadline.
    fn arm<T>(&mut self, cx: &mut Context<'_>) -> Poll<Stop<T>> {
        let linger = self.linger.map(|(until, _)| until);
        let nearest = [self.head, self.tick, self.age, linger].into_iter().flatten().min();
        let nearest = nearest.unwrap_or_else(|| later(Instant::now(), None));
        if self.sleep.deadline() != nearest {
            self.sleep.as_mut().reset(nearest);
        }
        if self.sleep.as_mut().poll(cx).is_ready() {
            // It came due meanwhile: look again.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// `now` and a timeout, or so late that it never comes.
fn later(now: Instant, timeout: Option<Duration>) -> Instant {
    const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    now + timeout.unwrap_or(NEVER).min(NEVER)
}
