//! The end of serving: when it begins, who has to know, when it is aborted short, and what it did.
//!
//! [`Drain`] is the coordinator. [`Server`](crate::Server) makes one and drives it; a service that is served otherwise makes its own:
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use std::time::Duration;
//! use axum_activation::{ActivatedListeners, drain::Drain, layer::DrainLayer};
//!
//! let drain = Drain::new();
//! let listener = ActivatedListeners::from_env()?.one("http")?;
//! tokio::spawn({
//!     let drain = drain.clone();
//!     async move {
//!         let _ = tokio::signal::ctrl_c().await;
//!         drain.start();
//!     }
//! });
//! let app = axum::Router::new().layer(DrainLayer::new(&drain));
//! let serving = axum::serve(listener.stop_on(&drain), app)
//!     .with_graceful_shutdown(drain.started_after(Duration::from_secs(1)));
//! let (_, report) = drain.run_server(serving, Duration::from_secs(30)).await;
//! println!("{report}");
//! # Ok(())
//! # }
//! ```
//!
//! What is weaker there than under `Server` is listed at [`Drain::run_server`].

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

mod external;
#[cfg(feature = "metrics")]
mod metrics;
mod report;
mod shard;
mod shutdown;
mod stats;
mod stream;

pub use self::{
    report::{DrainReport, ListenerReport},
    stats::{ListenerStats, Stats},
    stream::TakeUntilDrain,
};
pub(crate) use self::{
    shutdown::AbortOnDrop,
    stats::{CloseReason, Counters},
};

/// A successor serves from now on: readiness stays as it is.
const SUCCEEDED: u8 = 1;
/// The connections move: to it, or to where the next process finds them.
const MOVES: u8 = 2;
/// The service stops for a while: some connections move, others end.
const PAUSES: u8 = 4;

/// How far a service is on its way to the end. Phases only ever advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Serving.
    Running,
    /// The drain has started: what is in flight finishes.
    Draining,
    /// The deadline is over, or a second signal came: what is left is being aborted.
    Aborting,
    /// Nothing is left.
    Done,
}

/// Coordinates the end of a service. Clones are one and the same drain.
///
/// It is a handle that carries two moments ([`token`](Self::token), [`abort_token`](Self::abort_token)), the [`Phase`], and the
/// [`tasks`](Self::tasks) that are waited for. It is no server: it stops nothing by itself, whoever serves looks at it.
///
/// In a handler it is an extractor, under [`Server`](crate::Server) or behind
/// [`DrainLayer`](crate::layer::DrainLayer): a stream or a WebSocket can wait for [`started`](Self::started) and end itself.
#[derive(Clone)]
pub struct Drain {
    shared: Arc<Shared>,
}

/// Invariants:
///
/// 1. `has_started` is set before `started` is cancelled, so whoever is woken by the token sees the flag.
/// 2. `started` is a child of `aborted`: what is aborted has also started to drain.
/// 3. `phase` never goes back.
struct Shared {
    has_started: AtomicBool,
    /// [`SUCCEEDED`] and [`MOVES`]; set before `has_started`, so whoever sees that sees this.
    successor: AtomicU8,
    began_at: OnceLock<Instant>,
    started: CancellationToken,
    aborted: CancellationToken,
    phase: watch::Sender<Phase>,
    tasks: TaskTracker,
    connections: TaskTracker,
    requests: TaskTracker,
}

impl Drain {
    /// A drain that has not started.
    #[must_use]
    pub fn new() -> Self {
        let trackers = [TaskTracker::new(), TaskTracker::new(), TaskTracker::new()];
        Self::with(CancellationToken::new(), trackers)
    }

    /// Another drain over the same connections and tasks, for a service that has to go on after this one has started: its
    /// successor died. What aborts this one aborts that, too.
    pub(crate) fn renewed(&self) -> Self {
        let Shared { tasks, connections, requests, .. } = &*self.shared;
        Self::with(self.abort_token(), [tasks.clone(), connections.clone(), requests.clone()])
    }

    fn with(aborted: CancellationToken, [tasks, connections, requests]: [TaskTracker; 3]) -> Self {
        let shared = Shared {
            has_started: AtomicBool::new(false),
            successor: AtomicU8::new(0),
            began_at: OnceLock::new(),
            started: aborted.child_token(),
            aborted,
            phase: watch::Sender::new(Phase::Running),
            tasks,
            connections,
            requests,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Begins: readiness turns, streams and background tasks are told, the server stops accepting. Again does nothing.
    pub fn start(&self) {
        self.note_begin();
        self.advance(Phase::Draining);
        self.shared.started.cancel();
    }

    /// Begins as a successor takes over: streams and background tasks are told, and readiness stays as it is. With `moves`, connections
    /// go to the successor as well, and no response says that it is the last.
    pub(crate) fn begin_succession(&self, moves: bool) {
        let successor = if moves { SUCCEEDED | MOVES } else { SUCCEEDED };
        self.shared.successor.store(successor, Ordering::Relaxed);
        self.start();
    }

    /// Begins as the service stops for a while: readiness turns, and connections go to where the next process finds them.
    pub(crate) fn begin_pause(&self) {
        self.shared.successor.store(MOVES | PAUSES, Ordering::Relaxed);
        self.start();
    }

    /// No connection moves any more: what is left ends here.
    pub(crate) fn stop_moving(&self) {
        self.shared.successor.fetch_and(!MOVES, Ordering::Relaxed);
    }

    /// Drops what is left, at once; begins first if it has not.
    pub fn abort(&self) {
        self.note_begin();
        self.advance(Phase::Aborting);
        self.shared.aborted.cancel();
    }

    /// Whether it has started. One atomic load.
    #[inline]
    #[must_use]
    pub fn has_started(&self) -> bool {
        // Acquire pairs with the Release in `note_begin`: a task that the token woke sees the flag (invariant 1).
        self.shared.has_started.load(Ordering::Acquire)
    }

    /// Whether a successor serves in place of this process: the drain began by a handoff.
    #[must_use]
    pub fn has_successor(&self) -> bool {
        self.has_started() && self.shared.successor.load(Ordering::Relaxed) & SUCCEEDED != 0
    }

    /// Whether connections go to the next process when they can.
    #[inline]
    pub(crate) fn moves(&self) -> bool {
        self.has_started() && self.shared.successor.load(Ordering::Relaxed) & MOVES != 0
    }

    /// Whether the service stops for a while: what cannot move, or comes back, ends here.
    pub(crate) fn pauses(&self) -> bool {
        self.has_started() && self.shared.successor.load(Ordering::Relaxed) & PAUSES != 0
    }

    /// Whether responses say that they are the last on their connection.
    #[inline]
    pub(crate) fn closes(&self) -> bool {
        self.has_started() && self.shared.successor.load(Ordering::Relaxed) & MOVES == 0
    }

    /// Whether what is left is being aborted.
    pub(crate) fn is_aborted(&self) -> bool {
        self.shared.aborted.is_cancelled()
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.shared.phase.borrow()
    }

    /// The phase as a value to watch; a service that wants to show or log it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.shared.phase.subscribe()
    }

    /// Resolves when the drain has started.
    ///
    /// # Cancel safety
    ///
    /// It only waits; drop it and ask again.
    pub fn started(&self) -> WaitForCancellationFuture<'_> {
        self.shared.started.cancelled()
    }

    /// Resolves when what is left is being aborted.
    ///
    /// # Cancel safety
    ///
    /// It only waits; drop it and ask again.
    pub fn aborted(&self) -> WaitForCancellationFuture<'_> {
        self.shared.aborted.cancelled()
    }

    /// Resolves when nothing is left.
    ///
    /// # Cancel safety
    ///
    /// It only waits; drop it and ask again.
    pub async fn done(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let _ = self.watch().wait_for(|phase| *phase == Phase::Done).await;
    }

    /// Cancelled when the drain begins. A child: cancelling it begins no drain.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.shared.started.child_token()
    }

    /// Cancelled when what is left is aborted. A child: cancelling it aborts nothing.
    #[must_use]
    pub fn abort_token(&self) -> CancellationToken {
        self.shared.aborted.child_token()
    }

    /// The service's own background tasks: spawned here, they are waited for within the deadline.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use axum_activation::drain::Drain;
    ///
    /// let drain = Drain::new();
    /// let told = drain.token();
    /// drain.tasks().spawn(async move {
    ///     told.cancelled().await;
    ///     // flush what is to be flushed
    /// });
    /// drain.start();
    /// assert!(drain.finish(Duration::from_secs(1)).await.is_clean());
    /// # }
    /// ```
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    /// The connections that are waited for.
    pub(crate) fn connections(&self) -> &TaskTracker {
        &self.shared.connections
    }

    /// The requests that are waited for where nobody counts connections.
    pub(crate) fn requests(&self) -> &TaskTracker {
        &self.shared.requests
    }

    /// The token itself, for futures that are to own what they wait for.
    pub(crate) fn shared_abort_token(&self) -> CancellationToken {
        self.shared.aborted.clone()
    }

    fn note_begin(&self) {
        let _ = self.shared.began_at.set(Instant::now());
        self.shared.has_started.store(true, Ordering::Release);
    }

    fn advance(&self, to: Phase) {
        self.shared.phase.send_if_modified(|phase| {
            let advances = *phase < to;
            if advances {
                *phase = to;
            }
            advances
        });
    }

    /// How long ago it began; zero until then.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.began_at.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    fn left(&self) -> usize {
        self.shared.connections.len() + self.shared.requests.len() + self.shared.tasks.len()
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("phase", &self.phase())
            .field("connections", &self.shared.connections.len())
            .field("requests", &self.shared.requests.len())
            .field("tasks", &self.shared.tasks.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{shutdown::ABORT_LIMIT, *};

    #[tokio::test(start_paused = true)]
    async fn phases_advance_and_never_go_back() {
        let drain = Drain::new();
        assert_eq!((drain.phase(), drain.has_started()), (Phase::Running, false));
        drain.start();
        drain.start();
        assert_eq!((drain.phase(), drain.has_started()), (Phase::Draining, true));
        assert!(drain.token().is_cancelled() && !drain.abort_token().is_cancelled());
        drain.abort();
        drain.start();
        assert_eq!(drain.phase(), Phase::Aborting);
        assert!(drain.abort_token().is_cancelled());
        let report = drain.finish(Duration::ZERO).await;
        assert_eq!((drain.phase(), report.stuck), (Phase::Done, 0));
        drain.done().await;
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_are_waited_for_and_aborted_at_the_deadline() {
        let drain = Drain::new();
        let aborted = drain.abort_token();
        drain.tasks().spawn(async move { aborted.cancelled().await });
        let report = drain.finish(Duration::from_secs(3)).await;
        assert_eq!((report.elapsed, report.stuck), (Duration::from_secs(3), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_cannot_be_aborted_is_left_behind_and_counted() {
        let drain = Drain::new();
        drain.tasks().spawn(std::future::pending::<()>());
        let report = drain.finish(Duration::from_secs(3)).await;
        assert_eq!((report.elapsed, report.stuck), (Duration::from_secs(3) + ABORT_LIMIT, 1));
        assert!(!report.is_clean());
    }

    #[tokio::test]
    async fn cancelling_what_the_service_was_given_ends_nothing_else() {
        let drain = Drain::new();
        drain.token().cancel();
        drain.abort_token().cancel();
        assert_eq!(drain.phase(), Phase::Running);
        assert!(!drain.token().is_cancelled());
    }
}
