//! What the move of an HTTP/2 connection waits for, and how long at most.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    observe::http2::session::{Session, Step},
    state::State,
    turn::Turn,
};

/// How long a client may take to acknowledge that its header compression has no table, while no stream is open.
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(5);

/// How long new streams may wait for those that are open, at the first try; twice as long at each further one.
///
/// Measured from the handoff to the move, with h2load on 8 connections, an unoptimised build and two cores that ten other
/// processes kept busy: 95 of 100 moves took 14 to 42 ms, with 1 to 8 streams, answers of 100 bytes and uploads of 15 kB. With 32
/// streams it was 124 ms, with answers of 300 kB 1.6 s, at the second and fifth try. A request that waits is late by that time, so
/// the first try is as short as most connections allow.
const HOLD_LIMIT: Duration = Duration::from_millis(50);

/// The limits of a move.
#[derive(Debug, Default)]
pub(super) struct MoveTimer {
    turn: Turn,
    /// The step, and since when.
    step: Option<(Step, Instant)>,
    /// When the connection is sent away that has not moved.
    leave: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl MoveTimer {
    /// Ready when the connection may leave.
    pub(super) fn poll_turn(&mut self, state: &State, cx: &mut Context<'_>) -> Poll<()> {
        let latest = self.leave_at(state);
        let (drain, counters) = (&state.route.drain, &state.route.counters);
        self.turn.poll(drain.turns(), latest, || drain.elapsed(), || counters.requests_started(), cx)
    }

    /// What ends the connection's turn when it is dropped.
    pub(super) fn into_turn(self) -> Option<OwnedSemaphorePermit> {
        self.turn.into_permit()
    }

    /// Ready with the step whose limit is over, or with `None` when it is to be polled again.
    pub(super) fn poll(&mut self, session: &Session, state: &State, cx: &mut Context<'_>) -> Poll<Option<Step>> {
        let (step, now) = (session.step(), Instant::now());
        if matches!(step, Step::Stays(_)) || self.turn.until().is_some_and(|until| until <= now) {
            self.turn.end();
        }
        if matches!(step, Step::Passing | Step::Stays(_)) {
            return Poll::Pending;
        }
        let limit = self.limit(session, state);
        if limit <= now {
            return Poll::Ready(Some(step));
        }
        let next = self.turn.until().map_or(limit, |until| until.min(limit));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(next)));
        if sleep.deadline() != next {
            sleep.as_mut().reset(next);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(None)
    }

    /// Until when this step may last.
    fn limit(&mut self, session: &Session, state: &State) -> Instant {
        let (step, leave) = (session.step(), self.leave_at(state));
        let since = match self.step {
            Some((of, since)) if of == step => since,
            _ => self.step.insert((step, Instant::now())).1,
        };
        match step {
            Step::Asked if !session.has_streams() => leave.min(since + ACKNOWLEDGE_LIMIT),
            Step::Holding => leave.min(since + HOLD_LIMIT * (1 << session.holds().saturating_sub(1).min(8))),
            _ => leave,
        }
    }

    /// When a connection is sent away that has not moved, so that its streams can end before the drain's deadline.
    fn leave_at(&mut self, state: &State) -> Instant {
        *self.leave.get_or_insert_with(|| {
            let limit = state.route.limits.unmoved_limit(state.route.drain.stores());
            Instant::now() + limit.saturating_sub(state.route.drain.elapsed())
        })
    }
}
