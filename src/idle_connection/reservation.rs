//! What this process holds for a connection, also while the connection is in transfer.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::drain::{CloseReason, Counters, UnmovedReason};

/// One connection in the books of this process: the drain waits for it, it takes one of `max_connections`, and the statistics count it
/// as open.
///
/// It lives as long as this process has the socket. When it is dropped, the connection is counted as closed, for the reason that was
/// set last, and only then the drain and the limit hear of it: what the drain has seen to end is in its report.
#[derive(Debug)]
pub(crate) struct Reservation {
    counters: Arc<Counters>,
    reason: CloseReason,
    /// Why it did not move, if others do.
    unmoved: Option<UnmovedReason>,
    _tracked: TaskTrackerToken,
    _permit: Option<OwnedSemaphorePermit>,
    /// While it is in transfer: another one leaves when this one has arrived.
    turn: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Counts a connection as open.
    pub(crate) fn new(
        counters: Arc<Counters>,
        tracked: TaskTrackerToken,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        counters.accepted();
        Self { counters, reason: CloseReason::Finished, unmoved: None, _tracked: tracked, _permit: permit, turn: None }
    }

    /// Says what the connection is counted as when it is dropped.
    pub(crate) fn set_reason(&mut self, reason: CloseReason) {
        self.reason = reason;
        if matches!(reason, CloseReason::Moved(_)) {
            self.unmoved = None;
        }
    }

    /// Its place among the connections of the route, in place of the one that it had.
    #[cfg(feature = "tls")]
    pub(crate) fn set_permit(&mut self, permit: Option<OwnedSemaphorePermit>) {
        self._permit = permit;
    }

    /// Its turn to leave, which ends when it has arrived, or is back.
    pub(crate) fn set_turn(&mut self, turn: Option<OwnedSemaphorePermit>) {
        self.turn = turn;
    }

    /// Why the connection does not move, if that is known.
    pub(crate) fn unmoved(&self) -> Option<UnmovedReason> {
        self.unmoved
    }

    /// Says why the connection does not move. It has not moved then, whatever was said before.
    pub(crate) fn set_unmoved(&mut self, reason: UnmovedReason) {
        self.unmoved = Some(reason);
        if matches!(self.reason, CloseReason::Moved(_)) {
            self.reason = CloseReason::IdleClosed;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.unmoved.into_iter().for_each(|reason| self.counters.unmoved(reason));
        self.counters.ended(self.reason);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::drain::ConnectionKind;

    #[test]
    fn a_connection_is_open_until_its_reservation_is_dropped_and_counted_once() {
        let (counters, tracker) = (Arc::new(Counters::new("http".into())), TaskTracker::new());
        let mut reservation = Reservation::new(Arc::clone(&counters), tracker.token(), None);
        let before = counters.stats();
        assert_eq!((before.accepted, before.open, tracker.len()), (1, 1, 1));
        reservation.set_reason(CloseReason::Error);
        reservation.set_reason(CloseReason::Moved(ConnectionKind::Http1));
        drop(reservation);
        let after = counters.stats();
        assert_eq!((after.open, after.moved, after.errors, tracker.len()), (0, 1, 0, 0));
    }

    #[test]
    fn the_turn_of_a_connection_ends_when_it_has_arrived_or_is_back() {
        let (counters, tracker) = (Arc::new(Counters::new("http".into())), TaskTracker::new());
        let turns = Arc::new(Semaphore::new(2));
        let reserve = || {
            let mut reservation = Reservation::new(Arc::clone(&counters), tracker.token(), None);
            reservation.set_turn(Some(Arc::clone(&turns).try_acquire_owned().unwrap()));
            reservation
        };
        let (arrives, mut comes_back) = (reserve(), reserve());
        drop(arrives);
        assert_eq!(turns.available_permits(), 1);
        comes_back.set_turn(None);
        assert_eq!((turns.available_permits(), counters.stats().open), (2, 1));
    }

    #[test]
    fn why_a_connection_did_not_move_is_counted_unless_it_has_moved_after_all() {
        let (counters, tracker) = (Arc::new(Counters::new("http".into())), TaskTracker::new());
        let reserve = || Reservation::new(Arc::clone(&counters), tracker.token(), None);
        let (mut moves, mut comes_back) = (reserve(), reserve());
        moves.set_unmoved(UnmovedReason::OpenStreams);
        moves.set_reason(CloseReason::Moved(ConnectionKind::Http2));
        comes_back.set_reason(CloseReason::Moved(ConnectionKind::Http2));
        comes_back.set_unmoved(UnmovedReason::Refused);
        drop((moves, comes_back));
        let stats = counters.stats();
        assert_eq!((stats.open, stats.moved, stats.idle_closed, stats.unmoved), (0, 1, 1, 1));
        assert_eq!(stats.unmoved_by_reason.of(UnmovedReason::Refused), 1);
    }
}
