//! Looks after all connections of a route at once: which are idle for too long, which have reached their age.
//!
//! A route has one task and one kernel timer for it, and none if it has neither limit. A connection that works is not woken and does
//! nothing; it is looked at.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use slab::Slab;
use tokio::time::Instant;

use super::limits::Limits;
use crate::{idle_connection::Times, sys::timer::Ticker};

const SHARDS: usize = 8;

/// A timeout is made of so many ticks: it ends up to one of them late.
const TICKS: u32 = 8;

/// A connection that was open for longer when it came was open in another process.
const SHORTEST_STAY: Duration = Duration::from_millis(1);

/// What a connection shows of itself, and can be asked.
pub(super) trait IdleEntry: Send + Sync + 'static {
    /// A request is being answered.
    fn is_busy(&self) -> bool;
    /// How many requests there were.
    fn calls(&self) -> u32;
    /// It has been idle for as long as it may.
    fn close_idle(&self);
    /// It has reached its age.
    fn close_after_response(&self);
}

/// The connections that are looked after.
#[derive(Debug)]
pub(super) struct Reaper {
    limits: Limits,
    shards: [Mutex<Slab<Entry>>; SHARDS],
    /// The shard of the next connection. `Relaxed`: the connections are only to be spread.
    next: AtomicUsize,
}

impl fmt::Debug for dyn IdleEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdleEntry")
    }
}

#[derive(Debug)]
struct Entry {
    connection: Arc<dyn IdleEntry>,
    waker: Waker,
    calls: u32,
    /// No request was seen since: not at the last look, and none has ended between two looks.
    quiet_since: Instant,
    was_busy: bool,
    closes: Option<Instant>,
}

/// Where a connection is registered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    shard: usize,
    key: usize,
}

impl Reaper {
    pub(super) fn new(limits: &Limits) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { limits: limits.clone(), shards, next: AtomicUsize::new(0) }
    }

    /// Looks after `connection`, whose limits run since `times`, and wakes it with `waker` when it is asked something; `None` where
    /// there is no limit to keep.
    pub(super) fn register(&self, connection: Arc<dyn IdleEntry>, waker: Waker, times: &Times) -> Option<Registration> {
        let (period, now) = (self.period()?, Instant::now());
        let closes = self.limits.max_age.and_then(|max| times.opened.checked_add(max.draw()));
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let calls = connection.calls();
        let quiet_since = if calls == 0 { times.quiet_since } else { now };
        let mut entry = Entry { connection, waker, calls, quiet_since, was_busy: false, closes };
        // It may move on before the next tick, and so on: then none of the processes would ever look at it.
        if now.saturating_duration_since(times.opened) >= period.max(SHORTEST_STAY) {
            entry.look(now, self.limits.idle_timeout);
        }
        Some(Registration { shard, key: self.lock(shard).insert(entry) })
    }

    /// Since when the connection has answered nothing; rather later than it is.
    pub(super) fn quiet_since(&self, registration: Registration) -> Instant {
        let shard = self.lock(registration.shard);
        let entry =
            shard.get(registration.key).filter(|entry| !entry.was_busy && entry.calls == entry.connection.calls());
        entry.map_or_else(Instant::now, |entry| entry.quiet_since)
    }

    pub(super) fn deregister(&self, registration: Registration) {
        let entry = self.lock(registration.shard).try_remove(registration.key);
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
            let idle = self.limits.idle_timeout;
            for shard in 0..SHARDS {
                self.lock(shard).iter_mut().for_each(|(_, entry)| entry.look(now, idle));
            }
        }
    }

    /// How often to look.
    fn period(&self) -> Option<Duration> {
        let age = self.limits.max_age.map(|max| max.age.min(Duration::from_secs(8)));
        self.limits.idle_timeout.into_iter().chain(age).min().map(|shortest| shortest / TICKS)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Slab<Entry>> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn look(&mut self, now: Instant, idle_timeout: Option<Duration>) {
        if self.closes.is_some_and(|closes| closes <= now) {
            self.closes = None;
            self.connection.close_after_response();
            self.waker.wake_by_ref();
        }
        let (calls, is_busy) = (self.connection.calls(), self.connection.is_busy());
        if is_busy || self.was_busy || calls != self.calls {
            (self.calls, self.was_busy, self.quiet_since) = (calls, is_busy, now);
            return;
        }
        let Some(timeout) = idle_timeout else { return };
        // The ticks do not come at even intervals: one that is a little early counts.
        let slack = timeout / (16 * TICKS);
        if now.saturating_duration_since(self.quiet_since).saturating_add(slack) >= timeout {
            self.quiet_since = now;
            self.connection.close_idle();
            self.waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::{super::limits::MaxAge, *};

    #[derive(Debug, Default)]
    struct Looked {
        busy: AtomicU32,
        calls: AtomicU32,
        idle_closed: AtomicU32,
        last_responses: AtomicU32,
    }

    impl IdleEntry for Looked {
        fn is_busy(&self) -> bool {
            self.busy.load(Ordering::Relaxed) > 0
        }
        fn calls(&self) -> u32 {
            self.calls.load(Ordering::Relaxed)
        }
        fn close_idle(&self) {
            self.idle_closed.fetch_add(1, Ordering::Relaxed);
        }
        fn close_after_response(&self) {
            self.last_responses.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn entry(connection: &Arc<Looked>, times: &Times, closes: Option<Instant>) -> Entry {
        let (connection, waker) = (Arc::clone(connection) as _, Waker::noop().clone());
        Entry { connection, waker, calls: 0, quiet_since: times.quiet_since, was_busy: false, closes }
    }

    /// So many ticks of a timeout of eight seconds.
    fn look(entry: &mut Entry, now: &mut Instant, ticks: u32) {
        for _ in 0..ticks {
            *now += Duration::from_secs(1);
            entry.look(*now, Some(Duration::from_secs(8)));
        }
    }

    fn count(number: &AtomicU32) -> u32 {
        number.load(Ordering::Relaxed)
    }

    #[test]
    fn only_who_is_quiet_for_the_whole_timeout_expires() {
        let (connection, times) = (Arc::new(Looked::default()), Times::now());
        let (mut entry, mut now) = (entry(&connection, &times, None), times.opened);
        look(&mut entry, &mut now, TICKS - 1);
        assert_eq!(count(&connection.idle_closed), 0);
        connection.calls.store(1, Ordering::Relaxed);
        look(&mut entry, &mut now, TICKS);
        assert_eq!(count(&connection.idle_closed), 0);
        connection.busy.store(1, Ordering::Relaxed);
        look(&mut entry, &mut now, 100);
        assert_eq!(count(&connection.idle_closed), 0);
        connection.busy.store(0, Ordering::Relaxed);
        // Its response may have ended just now.
        look(&mut entry, &mut now, TICKS);
        assert_eq!(count(&connection.idle_closed), 0);
        look(&mut entry, &mut now, 1);
        assert_eq!(count(&connection.idle_closed), 1);
    }

    #[test]
    fn what_was_quiet_elsewhere_has_the_rest_of_the_timeout() {
        let connection = Arc::new(Looked::default());
        let mut now = Instant::now();
        let times = Times { quiet_since: now - Duration::from_secs(5), ..Times::now() };
        let mut entry = entry(&connection, &times, None);
        look(&mut entry, &mut now, 2);
        assert_eq!(count(&connection.idle_closed), 0);
        look(&mut entry, &mut now, 1);
        assert_eq!(count(&connection.idle_closed), 1);
    }

    #[test]
    fn age_comes_once_and_without_an_idle_timeout_no_connection_expires() {
        let (connection, times) = (Arc::new(Looked::default()), Times::now());
        let now = times.opened;
        let mut entry = entry(&connection, &times, Some(now + Duration::from_secs(1)));
        entry.look(now, None);
        assert_eq!(count(&connection.last_responses), 0);
        (0..100).for_each(|_| entry.look(now + Duration::from_secs(1000), None));
        assert_eq!((count(&connection.last_responses), count(&connection.idle_closed)), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_connection_travels_as_long_as_nothing_happens_on_it() {
        let limits = Limits {
            max_age: Some(MaxAge { age: Duration::from_secs(60), jitter: Duration::ZERO }),
            ..Limits::default()
        };
        let reaper = Reaper::new(&limits);
        let connection = Arc::new(Looked::default());
        let times = Times::now();
        tokio::time::advance(Duration::from_secs(59)).await;
        let registration = reaper.register(Arc::clone(&connection) as _, Waker::noop().clone(), &times).unwrap();
        assert_eq!(reaper.quiet_since(registration), times.opened);
        tokio::time::advance(Duration::from_secs(1)).await;
        reaper.lock(registration.shard)[registration.key].look(Instant::now(), limits.idle_timeout);
        assert_eq!(count(&connection.last_responses), 1);
        connection.calls.store(1, Ordering::Relaxed);
        assert_eq!(reaper.quiet_since(registration), Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_was_reached_on_the_way_is_seen_at_once() {
        let limits = Limits {
            max_age: Some(MaxAge { age: Duration::from_secs(600), jitter: Duration::ZERO }),
            ..Limits::default()
        };
        let reaper = Reaper::new(&limits);
        let times = Times::now();
        for (seconds, idle_closed, last_responses) in [(0, 0, 0), (110, 0, 0), (10, 1, 0), (480, 1, 1)] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            let connection = Arc::new(Looked::default());
            reaper.register(Arc::clone(&connection) as _, Waker::noop().clone(), &times).unwrap();
            assert_eq!(
                (count(&connection.idle_closed), count(&connection.last_responses)),
                (idle_closed, last_responses),
                "{seconds}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_the_limits_are_there_is_a_period_to_look_in() {
        for idle in [None, Some(Duration::ZERO), Some(Duration::from_secs(120)), Some(Duration::MAX)] {
            for age in [None, Some(Duration::ZERO), Some(Duration::from_secs(1)), Some(Duration::MAX)] {
                let max_age = age.map(|age| MaxAge { age, jitter: Duration::MAX });
                let reaper = Reaper::new(&Limits { idle_timeout: idle, max_age, ..Limits::default() });
                let Some(period) = reaper.period() else {
                    assert_eq!((idle, age), (None, None));
                    continue;
                };
                Ticker::every(period).unwrap();
                let (connection, times) = (Arc::new(Looked::default()), Times::now());
                let registration =
                    reaper.register(Arc::clone(&connection) as _, Waker::noop().clone(), &times).unwrap();
                reaper.lock(registration.shard)[registration.key].look(Instant::now() + period, idle);
                assert_eq!(count(&connection.idle_closed), u32::from(idle == Some(Duration::ZERO)), "{idle:?} {age:?}");
            }
        }
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let limits = Limits {
            max_age: Some(MaxAge { age: Duration::from_secs(1), jitter: Duration::ZERO }),
            ..Limits::default()
        };
        let reaper = Reaper::new(&limits);
        let (connection, times) = (Arc::new(Looked::default()), Times::now());
        let register = |_| reaper.register(Arc::clone(&connection) as _, Waker::noop().clone(), &times).unwrap();
        let registrations: Vec<_> = (0..20).map(register).collect();
        assert_eq!(Arc::strong_count(&connection), 21);
        registrations.into_iter().for_each(|registration| reaper.deregister(registration));
        assert_eq!(Arc::strong_count(&connection), 1);

        let none = Limits { idle_timeout: None, max_age: None, ..Limits::default() };
        assert!(Reaper::new(&none).register(connection, Waker::noop().clone(), &times).is_none());
    }
}
