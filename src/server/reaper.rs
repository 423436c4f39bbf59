//! Looks after all connections at once: which are idle for too long, which have reached their age.
//!
//! One task and one kernel timer a server. A connection that works is not woken and does nothing; it is looked at.

use std::{
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use slab::Slab;

use super::limits::Limits;
use crate::sys::timer::Ticker;

const SHARDS: usize = 8;

/// A timeout is made of so many ticks; a connection that is quiet for one more is idle.
const TICKS: u32 = 8;

/// What a connection shows of itself, and can be asked.
pub(super) trait Reapable: Send + Sync + 'static {
    /// A request is being answered.
    fn is_busy(&self) -> bool;
    /// How many requests there were.
    fn calls(&self) -> u32;
    /// It has been idle for as long as it may.
    fn expire(&self);
    /// It has reached its age.
    fn retire(&self);
}

/// The connections that are looked after.
#[derive(Debug)]
pub(super) struct Reaper<T> {
    limits: Limits,
    shards: [Mutex<Slab<Entry<T>>>; SHARDS],
    next: AtomicUsize,
}

#[derive(Debug)]
struct Entry<T> {
    connection: T,
    waker: Waker,
    calls: u32,
    quiet: u32,
    retires: Option<Instant>,
}

/// Where a connection is registered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    shard: usize,
    key: usize,
}

impl<T: Reapable> Reaper<T> {
    pub(super) fn new(limits: &Limits) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { limits: limits.clone(), shards, next: AtomicUsize::new(0) }
    }

    /// Looks after `connection`, and wakes it with `waker` when it is asked something; `None` where there is no limit to keep.
    pub(super) fn enter(&self, connection: T, waker: Waker) -> Option<Place> {
        self.period()?;
        let retires = self.limits.max_age.and_then(|max| Instant::now().checked_add(max.draw()));
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let calls = connection.calls();
        let key = self.lock(shard).insert(Entry { connection, waker, calls, quiet: 0, retires });
        Some(Place { shard, key })
    }

    pub(super) fn leave(&self, place: Place) {
        let entry = self.lock(place.shard).try_remove(place.key);
        // Dropped outside the lock.
        drop(entry);
    }

    /// Looks at every connection, again and again; returns at once where there is no limit to keep.
    pub(super) async fn run(&self) -> io::Result<()> {
        let Some(period) = self.period() else { return Ok(()) };
        let ticker = Ticker::every(period)?;
        loop {
            ticker.tick().await?;
            let now = Instant::now();
            for shard in 0..SHARDS {
                self.lock(shard).iter_mut().for_each(|(_, entry)| entry.look(now, self.limits.idle_timeout.is_some()));
            }
        }
    }

    /// How often to look.
    fn period(&self) -> Option<Duration> {
        let age = self.limits.max_age.map(|max| max.age.min(Duration::from_secs(8)));
        self.limits.idle_timeout.into_iter().chain(age).min().map(|shortest| shortest / TICKS)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Slab<Entry<T>>> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Reapable> Entry<T> {
    fn look(&mut self, now: Instant, idles: bool) {
        if self.retires.is_some_and(|retires| retires <= now) {
            self.retires = None;
            self.connection.retire();
            self.waker.wake_by_ref();
        }
        let calls = self.connection.calls();
        if self.connection.is_busy() || calls != self.calls {
            self.calls = calls;
            self.quiet = 0;
            return;
        }
        self.quiet += 1;
        if idles && self.quiet > TICKS {
            self.quiet = 0;
            self.connection.expire();
            self.waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU32};

    use super::{super::limits::MaxAge, *};

    #[derive(Debug, Default)]
    struct Looked {
        busy: AtomicU32,
        calls: AtomicU32,
        expired: AtomicU32,
        retired: AtomicU32,
    }

    impl Reapable for Arc<Looked> {
        fn is_busy(&self) -> bool {
            self.busy.load(Ordering::Relaxed) > 0
        }
        fn calls(&self) -> u32 {
            self.calls.load(Ordering::Relaxed)
        }
        fn expire(&self) {
            self.expired.fetch_add(1, Ordering::Relaxed);
        }
        fn retire(&self) {
            self.retired.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn entry(connection: &Arc<Looked>, retires: Option<Instant>) -> Entry<Arc<Looked>> {
        Entry { connection: Arc::clone(connection), waker: Waker::noop().clone(), calls: 0, quiet: 0, retires }
    }

    #[test]
    fn only_who_is_quiet_for_the_whole_timeout_expires() {
        let connection = Arc::new(Looked::default());
        let mut entry = entry(&connection, None);
        let now = Instant::now();
        let mut look = |times| (0..times).for_each(|_| entry.look(now, true));
        look(TICKS);
        assert_eq!(connection.expired.load(Ordering::Relaxed), 0);
        connection.calls.store(1, Ordering::Relaxed);
        look(TICKS + 1);
        assert_eq!(connection.expired.load(Ordering::Relaxed), 0);
        connection.busy.store(1, Ordering::Relaxed);
        look(100);
        assert_eq!(connection.expired.load(Ordering::Relaxed), 0);
        connection.busy.store(0, Ordering::Relaxed);
        look(TICKS + 1);
        assert_eq!(connection.expired.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn age_comes_once_and_without_an_idle_timeout_nobody_expires() {
        let connection = Arc::new(Looked::default());
        let now = Instant::now();
        let mut entry = entry(&connection, Some(now + Duration::from_secs(1)));
        entry.look(now, false);
        assert_eq!(connection.retired.load(Ordering::Relaxed), 0);
        (0..100).for_each(|_| entry.look(now + Duration::from_secs(1), false));
        assert_eq!(connection.retired.load(Ordering::Relaxed), 1);
        assert_eq!(connection.expired.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let limits = Limits {
            max_age: Some(MaxAge { age: Duration::from_secs(1), jitter: Duration::ZERO }),
            ..Limits::default()
        };
        let reaper = Reaper::new(&limits);
        let connection = Arc::new(Looked::default());
        let places: Vec<_> =
            (0..20).map(|_| reaper.enter(Arc::clone(&connection), Waker::noop().clone()).unwrap()).collect();
        assert_eq!(Arc::strong_count(&connection), 21);
        places.into_iter().for_each(|place| reaper.leave(place));
        assert_eq!(Arc::strong_count(&connection), 1);

        let none = Limits { idle_timeout: None, max_age: None, ..Limits::default() };
        assert!(Reaper::new(&none).enter(connection, Waker::noop().clone()).is_none());
    }
}
