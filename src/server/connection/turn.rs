//! The turn of an HTTP/2 connection to leave: few leave at a time, and the others are served on until it is their turn.
//!
//! To move a connection costs this process and the next one some 100 µs together, and its client waits meanwhile. If all of them left
//! at once, each client would wait for the moves of all. Under load the moves must not take all that the requests leave of the
//! processors either, or every request waits: so there is a pause before a turn then, but for a handoff of many connections that
//! would take too long.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::PollSemaphore;

/// A connection leaves without its turn after so long: its client is slow to acknowledge, or a stream lasts.
const LONGEST_TURN: Duration = Duration::from_millis(2);

/// A connection waits for its turn for so long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long a connection lets requests go first when it is its turn, if the listener has any.
///
/// Measured with 64 connections at half of the capacity and a handoff a second: with it 8 of them leave in some 5 ms and not in 1.6 ms.
const PAUSE: Duration = Duration::from_millis(4);

/// How long after the start of the drain that holds. Then the rest leaves as fast as it can.
const PAUSES_UNTIL: Duration = Duration::from_millis(500);

/// What a connection has of its turn.
#[derive(Debug, Default)]
pub(super) struct Turn(Part);

#[derive(Debug, Default)]
enum Part {
    #[default]
    None,
    Waits(Box<Waiting>),
    Pauses(OwnedSemaphorePermit, Pin<Box<Sleep>>),
    Has(OwnedSemaphorePermit, Instant),
    Over,
}

#[derive(Debug)]
struct Waiting {
    turns: PollSemaphore,
    until: Pin<Box<Sleep>>,
    /// Requests of the listener when the wait began.
    requests: u64,
}

impl Turn {
    /// Ready when the connection may leave: it is its turn, or it has waited for long enough.
    ///
    /// `drained_for` is the time since the start of the drain, and `requests` how many requests the listener has had so far.
    pub(super) fn poll(
        &mut self,
        turns: &Arc<Semaphore>,
        latest: Instant,
        drained_for: impl Fn() -> Duration,
        requests: impl Fn() -> u64,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let now = Instant::now();
            self.0 = match mem::take(&mut self.0) {
                Part::None => Part::Waits(Box::new(Waiting {
                    turns: PollSemaphore::new(Arc::clone(turns)),
                    until: Box::pin(sleep_until(latest.min(now + LONGEST_WAIT))),
                    requests: requests(),
                })),
                Part::Waits(mut waiting) => match (waiting.turns.poll_acquire(cx), waiting.until.as_mut().poll(cx)) {
                    (Poll::Ready(Some(permit)), Poll::Pending)
                        if drained_for() < PAUSES_UNTIL && requests() != waiting.requests =>
                    {
                        Part::Pauses(permit, Box::pin(sleep_until(latest.min(now + PAUSE))))
                    }
                    (Poll::Ready(Some(permit)), _) => Part::Has(permit, now + LONGEST_TURN),
                    (Poll::Pending, Poll::Pending) => {
                        self.0 = Part::Waits(waiting);
                        return Poll::Pending;
                    }
                    _ => Part::Over,
                },
                Part::Pauses(permit, mut sleep) => match sleep.as_mut().poll(cx) {
                    Poll::Ready(()) => Part::Has(permit, now + LONGEST_TURN),
                    Poll::Pending => {
                        self.0 = Part::Pauses(permit, sleep);
                        return Poll::Pending;
                    }
                },
                part @ (Part::Has(..) | Part::Over) => {
                    self.0 = part;
                    return Poll::Ready(());
                }
            };
        }
    }

    /// Until when it lasts.
    pub(super) fn until(&self) -> Option<Instant> {
        if let Part::Has(_, until) = &self.0 { Some(*until) } else { None }
    }

    /// It is the turn of the next one.
    pub(super) fn end(&mut self) {
        self.0 = Part::Over;
    }

    /// What lets the next one leave when it is dropped.
    pub(super) fn into_permit(self) -> Option<OwnedSemaphorePermit> {
        if let Part::Has(permit, _) = self.0 { Some(permit) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn};

    use futures_util::FutureExt;

    use super::*;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_leaves_when_the_one_before_has_left_or_ends_its_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let [mut first, mut second, mut third] = [Turn::default(), Turn::default(), Turn::default()];
        let asks = |turn: &mut Turn| {
            poll_fn(|cx| turn.poll(&turns, far(), || Duration::ZERO, || 0, cx)).now_or_never().is_some()
        };
        assert!(asks(&mut first) && asks(&mut first), "it has its turn once");
        assert!(!asks(&mut second) && !asks(&mut third));
        assert_eq!(first.until(), Some(Instant::now() + LONGEST_TURN));
        let permit = first.into_permit();
        assert!(!asks(&mut second), "the first one has not arrived");
        drop(permit);
        assert!(!asks(&mut third), "the second one was there before");
        assert!(asks(&mut second));
        second.end();
        assert!(asks(&mut second) && second.until().is_none(), "it leaves all the same");
        assert!(asks(&mut third));
    }

    #[tokio::test(start_paused = true)]
    async fn none_waits_longer_than_a_second_or_until_its_latest_moment() {
        let turns = Arc::new(Semaphore::new(0));
        let start = Instant::now();
        let (mut turn, mut hurried) = (Turn::default(), Turn::default());
        poll_fn(|cx| hurried.poll(&turns, start + Duration::from_millis(300), || Duration::ZERO, || 0, cx)).await;
        assert_eq!(start.elapsed().as_millis(), 300);
        let start = Instant::now();
        poll_fn(|cx| turn.poll(&turns, far(), || Duration::ZERO, || 0, cx)).await;
        assert_eq!(start.elapsed(), LONGEST_WAIT);
        assert!(turn.into_permit().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn while_requests_come_a_turn_begins_with_a_pause_but_not_in_a_handoff_that_lasts() {
        let turns = Arc::new(Semaphore::new(1));
        let start = Instant::now();
        let (seen, drained_for) = (Cell::new(7), || start.elapsed());
        let requests = || seen.replace(seen.get() + 1);
        let mut first = Turn::default();
        poll_fn(|cx| first.poll(&turns, far(), drained_for, requests, cx)).await;
        assert_eq!(start.elapsed(), PAUSE, "a request came");
        assert_eq!(first.until(), Some(Instant::now() + LONGEST_TURN), "the turn begins after the pause");
        let mut second = Turn::default();
        assert!(poll_fn(|cx| second.poll(&turns, far(), drained_for, requests, cx)).now_or_never().is_none());
        drop(first);
        sleep_until(start + PAUSES_UNTIL).await;
        poll_fn(|cx| second.poll(&turns, far(), drained_for, requests, cx)).await;
        assert_eq!(start.elapsed(), PAUSES_UNTIL);
    }

    #[tokio::test]
    async fn one_that_ends_while_it_waits_takes_no_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let [mut first, mut second, mut third] = [Turn::default(), Turn::default(), Turn::default()];
        let asks = |turn: &mut Turn| {
            poll_fn(|cx| turn.poll(&turns, far(), || Duration::ZERO, || 0, cx)).now_or_never().is_some()
        };
        assert!(asks(&mut first) && !asks(&mut second) && !asks(&mut third));
        drop((first, second));
        assert!(asks(&mut third));
    }
}
