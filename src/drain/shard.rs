//! Which part of a count a thread writes: one of its own, so that it takes neither a lock nor a locked instruction.
//!
//! A thread owns a shard from its first count to its end. Then the shard goes to another thread, with all that was
//! counted in it.
//!
//! The orderings, and what breaks without each:
//!
//! - [`increment`] of an owned shard loads `Relaxed`: no other thread stores there. It stores `Release`: a reader that
//!   sees the number sees every count that this thread made before.
//! - [`take`] is `Acquire` and the drop of [`Ownership`] is `Release`: otherwise the next owner could load a number of
//!   before the last owner's last store, and that count would be lost.
//! - The shared shard is counted with `fetch_add`, as several threads write it.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// So many threads have a shard of their own, at a time; all others share one more. It is the number of bits in
/// [`FREE`].
const OWNED: usize = 32;
pub(super) const SHARDS: usize = OWNED + 1;

/// The shard of those that have none of their own.
const SHARED: usize = OWNED;
const UNKNOWN: usize = usize::MAX;

/// A bit for each shard that no thread has.
static FREE: AtomicU32 = AtomicU32::new(u32::MAX);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(UNKNOWN) };
    static OWNERSHIP: Ownership = const { Ownership };
}

/// Gives a thread's shard back when the thread ends.
#[derive(Debug)]
struct Ownership;

impl Drop for Ownership {
    fn drop(&mut self) {
        let shard = SHARD.replace(SHARED);
        if shard < OWNED {
            FREE.fetch_or(1 << shard, Ordering::Release);
        }
    }
}

/// The shard that this thread counts in.
#[inline]
pub(super) fn of_this_thread() -> usize {
    match SHARD.get() {
        UNKNOWN => choose(),
        shard => shard,
    }
}

/// Once a thread.
#[cold]
fn choose() -> usize {
    // A thread that is at its end has given its shard back already.
    let shard = OWNERSHIP.try_with(|_| take()).ok().flatten().unwrap_or(SHARED);
    SHARD.set(shard);
    shard
}

/// The lowest shard that is free; `None` where all are owned.
fn take() -> Option<usize> {
    let free = FREE.fetch_update(Ordering::Acquire, Ordering::Relaxed, |free| {
        let lowest = free & free.wrapping_neg();
        (lowest != 0).then_some(free & !lowest)
    });
    free.ok().map(|free| free.trailing_zeros() as usize)
}

/// Adds one to `count`, which is of `shard`, that of this thread.
#[inline]
pub(super) fn increment(count: &AtomicU64, shard: usize) {
    if shard < OWNED {
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    } else {
        count.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    #[test]
    fn threads_beyond_the_owned_shards_share_one_and_none_is_lost() {
        const THREADS: usize = 3 * OWNED;
        const EACH: u64 = 1000;
        let counts: [AtomicU64; SHARDS] = std::array::from_fn(|_| AtomicU64::new(0));
        let (chosen, all_chose) = (AtomicU64::new(0), Barrier::new(THREADS));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let shard = of_this_thread();
                    if shard < OWNED {
                        let bit = 1 << shard;
                        assert_eq!(chosen.fetch_or(bit, Ordering::Relaxed) & bit, 0, "two threads own shard {shard}");
                    }
                    all_chose.wait();
                    (0..EACH).for_each(|_| increment(&counts[shard], shard));
                });
            }
        });
        let sum: u64 = counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, THREADS as u64 * EACH);
        assert_ne!(counts[SHARED].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_thread_that_ends_gives_its_shard_back() {
        for _ in 0..2 * OWNED {
            let shard = thread::spawn(of_this_thread).join().expect("no panic");
            // Other tests have threads as well, and may have all that are owned for a moment.
            if shard < OWNED {
                return assert_is_given_back(shard);
            }
        }
        panic!("no thread had a shard of its own");
    }

    fn assert_is_given_back(shard: usize) {
        let again = (0..100_000).any(|_| thread::spawn(of_this_thread).join().is_ok_and(|other| other == shard));
        assert!(again, "shard {shard} is not given to another thread");
    }
}
