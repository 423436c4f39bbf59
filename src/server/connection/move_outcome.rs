//! What has become of the move of a connection, of HTTP/2 or of one that has come back, and what still keeps it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

const DEPARTED: u8 = 1;
const STAYS: u8 = 2;

/// What has become of a move. The connection's task alone writes and reads it.
#[derive(Debug, Default)]
pub(super) struct MoveOutcome {
    outcome: AtomicU8,
    /// HTTP/2: a stream is open on the wire. Its response may have left the service, and be on its way to the client.
    has_streams: AtomicBool,
}

impl MoveOutcome {
    /// Notes whether a stream is open.
    #[inline]
    pub(super) fn note_streams(&self, has_streams: bool) {
        self.has_streams.store(has_streams, Ordering::Relaxed);
    }

    /// Whether a stream is open. The reaper asks, too: a late value is one more busy tick.
    pub(super) fn has_streams(&self) -> bool {
        self.has_streams.load(Ordering::Relaxed)
    }

    /// The stream has been taken out from under hyper.
    pub(super) fn depart(&self) {
        self.outcome.store(DEPARTED, Ordering::Relaxed);
    }

    pub(super) fn has_departed(&self) -> bool {
        self.outcome.load(Ordering::Relaxed) == DEPARTED
    }

    /// The connection cannot move; whether that is new.
    pub(super) fn stay(&self) -> bool {
        self.outcome.swap(STAYS, Ordering::Relaxed) != STAYS
    }

    pub(super) fn stays(&self) -> bool {
        self.outcome.load(Ordering::Relaxed) == STAYS
    }
}
