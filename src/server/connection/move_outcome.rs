//! What has become of the move of a connection: of HTTP/2, or of one that has come back.

use std::sync::atomic::{AtomicU8, Ordering};

const DEPARTED: u8 = 1;
const STAYS: u8 = 2;

/// What has become of a move. The connection's task alone writes and reads it.
#[derive(Debug, Default)]
pub(super) struct MoveOutcome(AtomicU8);

impl MoveOutcome {
    /// The stream has been taken out from under hyper.
    pub(super) fn depart(&self) {
        self.0.store(DEPARTED, Ordering::Relaxed);
    }

    pub(super) fn has_departed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DEPARTED
    }

    /// The connection cannot move; whether that is new.
    pub(super) fn stay(&self) -> bool {
        self.0.swap(STAYS, Ordering::Relaxed) != STAYS
    }

    pub(super) fn stays(&self) -> bool {
        self.0.load(Ordering::Relaxed) == STAYS
    }
}
