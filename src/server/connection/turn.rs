//! The turn of an HTTP/2 connection to leave: few leave at a time, and the others are served on until it is their turn.
//!
//! To move a connection costs this process and the next one some 100 µs together, and its client waits meanwhile. If all of them left
//! at once, each client would wait for the moves of all.

use std::{
    future::Future,
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

/// What a connection has of its turn.
#[derive(Debug, Default)]
pub(super) struct Turn(Part);

#[derive(Debug, Default)]
enum Part {
    #[default]
    None,
    Waits(Box<(PollSemaphore, Pin<Box<Sleep>>)>),
    Has(OwnedSemaphorePermit, Instant),
    Over,
}

impl Turn {
    /// Ready when the connection may leave: it is its turn, or it has waited for long enough.
    pub(super) fn poll(&mut self, turns: &Arc<Semaphore>, latest: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.0 = match &mut self.0 {
                Part::None => {
                    let until = latest.min(Instant::now() + LONGEST_WAIT);
                    Part::Waits(Box::new((PollSemaphore::new(Arc::clone(turns)), Box::pin(sleep_until(until)))))
                }
                Part::Waits(waiting) => match (waiting.0.poll_acquire(cx), waiting.1.as_mut().poll(cx)) {
                    (Poll::Ready(Some(permit)), _) => Part::Has(permit, Instant::now() + LONGEST_TURN),
                    (Poll::Pending, Poll::Pending) => return Poll::Pending,
                    _ => Part::Over,
                },
                Part::Has(..) | Part::Over => return Poll::Ready(()),
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
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_leaves_when_the_one_before_has_left_or_ends_its_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let [mut first, mut second, mut third] = [Turn::default(), Turn::default(), Turn::default()];
        let asks = |turn: &mut Turn| poll_fn(|cx| turn.poll(&turns, far(), cx)).now_or_never().is_some();
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
        poll_fn(|cx| hurried.poll(&turns, start + Duration::from_millis(300), cx)).await;
        assert_eq!(start.elapsed().as_millis(), 300);
        let start = Instant::now();
        poll_fn(|cx| turn.poll(&turns, far(), cx)).await;
        assert_eq!(start.elapsed(), LONGEST_WAIT);
        assert!(turn.into_permit().is_none());
    }

    #[tokio::test]
    async fn one_that_ends_while_it_waits_takes_no_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let [mut first, mut second, mut third] = [Turn::default(), Turn::default(), Turn::default()];
        let asks = |turn: &mut Turn| poll_fn(|cx| turn.poll(&turns, far(), cx)).now_or_never().is_some();
        assert!(asks(&mut first) && !asks(&mut second) && !asks(&mut third));
        drop((first, second));
        assert!(asks(&mut third));
    }
}
