//! The end of serving: when it begins, when it is cut short, and what it did.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

/// The two moments of an orderly end, and the connections that are waited for. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    shared: Arc<Shared>,
}

/// Invariant: `has_begun` is set before `begun` is cancelled, so whoever is woken by the token sees the flag.
#[derive(Debug)]
struct Shared {
    has_begun: AtomicBool,
    /// A child of `cut`: what is cut has also begun to drain.
    begun: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Drain {
    pub(crate) fn new() -> Self {
        let cut = CancellationToken::new();
        let begun = cut.child_token();
        let connections = TaskTracker::new();
        Self { shared: Arc::new(Shared { has_begun: AtomicBool::new(false), begun, cut, connections }) }
    }

    /// Stop accepting, finish what is in flight.
    pub(crate) fn begin(&self) {
        self.shared.has_begun.store(true, Ordering::Release);
        self.shared.begun.cancel();
    }

    /// Drop what is left.
    pub(crate) fn cut(&self) {
        self.shared.has_begun.store(true, Ordering::Release);
        self.shared.cut.cancel();
    }

    /// Whether the drain has begun: one load, for paths on which polling [`begun`](Self::begun) would take a lock.
    #[inline]
    pub(crate) fn has_begun(&self) -> bool {
        // Acquire pairs with the Release of `begin` and `cut`: a task that was woken by the token sees the flag.
        self.shared.has_begun.load(Ordering::Acquire)
    }

    /// Resolves when the drain has begun.
    pub(crate) fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.shared.begun.cancelled()
    }

    /// Resolves when what is left is to be dropped.
    pub(crate) fn cut_short(&self) -> WaitForCancellationFuture<'_> {
        self.shared.cut.cancelled()
    }

    /// Cuts when dropped.
    pub(crate) fn cut_guard(&self) -> CutOnDrop {
        CutOnDrop(self.clone())
    }

    /// The connections that the drain waits for.
    pub(crate) fn connections(&self) -> &TaskTracker {
        &self.shared.connections
    }
}

/// Cuts a drain when dropped.
#[derive(Debug)]
pub(crate) struct CutOnDrop(Drain);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// How many connections of one listener ended, and how. Clones of an `Arc` count together.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    finished: AtomicU64,
    cut: AtomicU64,
}

impl Tally {
    // Relaxed: the figures are read after the tasks that count have been joined.
    pub(crate) fn count_finished(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn report(&self, name: &str) -> ListenerReport {
        ListenerReport {
            name: name.to_owned(),
            finished: self.finished.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
        }
    }
}

/// What [`Server::run`](crate::Server::run) did until it returned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// From the beginning of the drain to its end.
    pub elapsed: Duration,
    /// One entry a route, in the order of the routes.
    pub listeners: Vec<ListenerReport>,
}

/// The connections of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerReport {
    /// The name of its sockets.
    pub name: String,
    /// How many connections ended by themselves, over the whole life of the server.
    pub finished: u64,
    /// How many were cut at `drain_timeout`.
    pub cut: u64,
}

impl DrainReport {
    /// Whether every connection ended by itself.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.listeners.iter().all(|listener| listener.cut == 0)
    }
}

/// `drained in 1.2s; http: 341 finished, 0 cut`.
impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drained in {:.1?}", self.elapsed)?;
        for ListenerReport { name, finished, cut } in &self.listeners {
            write!(f, "; {name}: {finished} finished, {cut} cut")?;
        }
        Ok(())
    }
}
