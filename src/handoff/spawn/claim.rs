//! One process hands over once: the right to start the next process, which one server of this process has at a time.
//!
//! A handoff replaces the whole process. Two servers that hand over at the same signal would start two next processes, and each of
//! those would have the listeners of both.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The claim that has the right.
static HOLDER: Mutex<Option<u64>> = Mutex::new(None);

/// A server's claim to the right. Released when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    id: u64,
}

impl Claim {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Only the numbers must differ.
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Takes the right; `false` where another claim has it.
    pub(crate) fn take(&self) -> bool {
        let mut holder = HOLDER.lock().unwrap_or_else(PoisonError::into_inner);
        *holder.get_or_insert(self.id) == self.id
    }

    /// Leaves the right to others, if this claim has it.
    pub(crate) fn release(&self) {
        let mut holder = HOLDER.lock().unwrap_or_else(PoisonError::into_inner);
        holder.take_if(|id| *id == self.id);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_claim_has_the_right_until_it_releases_it() {
        let (first, second) = (Claim::new(), Claim::new());
        assert!(first.take() && first.take());
        assert!(!second.take());
        second.release();
        assert!(!second.take());
        drop(first);
        assert!(second.take());
    }
}
