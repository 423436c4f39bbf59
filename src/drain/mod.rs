//! Graceful shutdown: when it starts, which parts of the service take note, when it is aborted, and what it did.
//!
//! [`Drain`] is the coordinator. [`Server`](crate::Server) makes one and runs it. A service that is served otherwise
//! makes its own:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use std::time::Duration;
//! use axum::Router;
//! use axum_activation::{ActivatedListeners, drain::Drain, layer::DrainLayer};
//!
//! let drain = Drain::new();
//! let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
//! let listener = activated.one("http")?;
//!
//! tokio::spawn({
//!     let drain = drain.clone();
//!     async move {
//!         // a program waits for a signal here: `tokio::signal::ctrl_c().await`
//!         drain.start();
//!     }
//! });
//! let app = Router::new().layer(DrainLayer::new(&drain));
//! let serving = axum::serve(listener.stop_on(&drain), app)
//!     .with_graceful_shutdown(drain.started_after(Duration::from_millis(10)));
//! let (_, report) = drain.run_server(serving, Duration::from_secs(30)).await;
//! assert!(report.is_clean());
//! # Ok(())
//! # }
//! ```
//!
//! [`Drain::run_server`] lists what is weaker there than under `Server`.
//!
//! # What happens when
//!
//! | | phase | readiness | responses | tokens |
//! | --- | --- | --- | --- | --- |
//! | the service runs | [`Running`](Phase::Running) | 200 | | |
//! | [`Drain::start`] | [`Draining`](Phase::Draining) | 503 | `Connection: close` | [`token`](Drain::token) is cancelled |
//! | a successor takes over | [`Draining`](Phase::Draining) | 200 | as before, if connections move | [`token`](Drain::token) is cancelled |
//! | [`Drain::abort`], or the deadline | [`Aborting`](Phase::Aborting) | 503 | | [`abort_token`](Drain::abort_token) is cancelled |
//! | nothing is left | [`Done`](Phase::Done) | | | |

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, futures::Notified, watch},
    time::Instant,
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

mod counts;
mod external;
mod handshakes;
mod kind;
#[cfg(feature = "metrics")]
mod metrics;
mod report;
mod shard;
mod shutdown;
mod stats;
mod stream;
mod unmoved;

pub use self::{
    counts::{FailedHandshakes, MovedByKind, UnmovedByReason},
    handshakes::HandshakeFailure,
    kind::ConnectionKind,
    report::{DrainReport, ListenerReport},
    stats::{HandshakeStats, ListenerStats, Stats},
    stream::TakeUntilDrain,
    unmoved::UnmovedReason,
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
const STORES: u8 = 4;
/// Connections moved at the start of the drain, whatever has become of that.
const MOVED: u8 = 8;

/// How far a service is on its way to the end. Phases only ever advance.
///
/// They are ordered, so that a program can compare them:
///
/// ```
/// use axum_activation::{Drain, Phase};
///
/// let drain = Drain::new();
/// assert_eq!(drain.phase(), Phase::Running);
/// drain.start();
/// assert!(drain.phase() >= Phase::Draining);
/// drain.abort();
/// assert_eq!(drain.phase(), Phase::Aborting);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Serving.
    Running,
    /// The drain has started: requests in flight finish.
    Draining,
    /// The deadline is over, or a second signal came: what is left is being aborted.
    Aborting,
    /// Nothing is left.
    Done,
}

/// Coordinates graceful shutdown. Clones are one and the same drain.
///
/// It is a handle that carries two moments ([`token`](Self::token), [`abort_token`](Self::abort_token)), the [`Phase`],
/// and the [`tasks`](Self::tasks) that are waited for. It is no server: it stops nothing by itself, each part of the
/// service asks it.
///
/// In a handler it is an extractor, under [`Server`](crate::Server) or behind [`DrainLayer`](crate::layer::DrainLayer).
/// A stream or a WebSocket waits for [`started`](Self::started) and ends itself:
///
/// ```
/// use axum::{Router, extract::ws::{WebSocket, WebSocketUpgrade}, response::Response, routing::get};
/// use axum_activation::Drain;
///
/// async fn chat(upgrade: WebSocketUpgrade, drain: Drain) -> Response {
///     // `tasks` has the drain wait for it, as a connection that is upgraded is no request any more.
///     let token = drain.tasks().token();
///     upgrade.on_upgrade(async move |mut socket: WebSocket| {
///         let _token = token;
///         loop {
///             tokio::select! {
///                 message = socket.recv() => if message.is_none() { break },
///                 () = drain.started() => break, // the client connects again, to the next process
///             }
///         }
///     })
/// }
/// let app: Router = Router::new().route("/chat", get(chat));
/// # let _ = app;
/// ```
#[derive(Clone)]
pub struct Drain {
    shared: Arc<Shared>,
}

/// Invariants:
///
/// 1. `has_started` is set before `started` is cancelled, so a task that the token wakes sees the flag.
/// 2. `started` is a child of `aborted`: what is aborted has also started to drain.
/// 3. `phase` never goes back.
/// 4. `successor` is stored before `has_started`, and read after it. `has_started` is stored with `Release` and read
///    with `Acquire`, so `Relaxed` is enough for `successor`: a thread that sees the flag sees what was stored before
///    it. Later changes ([`stop_moving`](Drain::stop_moving)) only turn a bit off; a thread that misses one moves a
///    connection to where none is taken any more, and gets it back.
struct Shared {
    has_started: AtomicBool,
    /// [`SUCCEEDED`], [`MOVES`], [`STORES`] and [`MOVED`].
    successor: AtomicU8,
    stopped_moving: Notify,
    started_at: OnceLock<Instant>,
    started: CancellationToken,
    aborted: CancellationToken,
    phase: watch::Sender<Phase>,
    tasks: TaskTracker,
    connections: TaskTracker,
    requests: TaskTracker,
    follower: OnceLock<Follower>,
    /// One for each HTTP/2 connection that may be leaving.
    turns: OnceLock<Arc<Semaphore>>,
}

/// What goes on while everything else drains: the listeners that serve [`until_done`](crate::server::ServeOptions::until_done).
struct Follower {
    /// Starts when nothing else is left, or at once with a successor. Its abort token is a child of that of the drain it follows.
    drain: Drain,
    loops: TaskTracker,
}

/// How many HTTP/2 connections leave at a time. With fewer all of them take longer to leave; with more each client waits longer.
///
/// Measured with `cargo bench --bench handoff -- HTTP/2` on two cores: to move 5,000 idle connections takes 430 ms with 4, 390 ms with 6,
/// 360 ms with 8, and 200 ms without turns. The 99th percentile of the latency was the least with 4; see `benches/RESULTS.md`.
fn turns() -> usize {
    const PER_CORE: usize = 4;
    PER_CORE * std::thread::available_parallelism().map_or(1, usize::from)
}

impl Drain {
    /// A drain that has not started.
    ///
    /// ```
    /// use axum_activation::{Drain, Phase};
    ///
    /// assert_eq!(Drain::new().phase(), Phase::Running);
    /// ```
    #[must_use]
    pub fn new() -> Self {
        let trackers = [TaskTracker::new(), TaskTracker::new(), TaskTracker::new()];
        Self::with(CancellationToken::new(), trackers)
    }

    /// Another drain over the same connections and tasks, for a service that goes on after this one has started, as its
    /// successor died. An abort of this drain aborts that one too.
    pub(crate) fn renewed(&self) -> Self {
        let renewed = Self::with(self.abort_token(), self.trackers());
        if let Some(follower) = self.shared.follower.get() {
            let drain = Self::with(renewed.abort_token(), follower.drain.trackers());
            let _ = renewed.shared.follower.set(Follower { drain, loops: follower.loops.clone() });
        }
        renewed
    }

    /// The drain of what goes on until this one is done, and the tracker of its accept loops; the same at each call.
    pub(crate) fn follower(&self) -> (&Self, &TaskTracker) {
        let Follower { drain, loops } = self.shared.follower.get_or_init(|| {
            let trackers = [TaskTracker::new(), TaskTracker::new(), TaskTracker::new()];
            Follower { drain: Self::with(self.abort_token(), trackers), loops: TaskTracker::new() }
        });
        loops.close();
        (drain, loops)
    }

    /// Waits until nothing accepts any more that goes on until this drain is done.
    pub(crate) async fn follower_loops(&self) {
        if let Some(follower) = self.shared.follower.get() {
            follower.loops.wait().await;
        }
    }

    fn trackers(&self) -> [TaskTracker; 3] {
        let Shared { tasks, connections, requests, .. } = &*self.shared;
        [tasks.clone(), connections.clone(), requests.clone()]
    }

    fn with(aborted: CancellationToken, [tasks, connections, requests]: [TaskTracker; 3]) -> Self {
        let shared = Shared {
            has_started: AtomicBool::new(false),
            successor: AtomicU8::new(0),
            stopped_moving: Notify::new(),
            started_at: OnceLock::new(),
            started: aborted.child_token(),
            aborted,
            phase: watch::Sender::new(Phase::Running),
            tasks,
            connections,
            requests,
            follower: OnceLock::new(),
            turns: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Starts the drain: readiness turns to 503, streams and background tasks see it, the server stops accepting. A
    /// second call does nothing.
    ///
    /// ```
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// drain.start();
    /// assert!(drain.has_started() && drain.token().is_cancelled());
    /// ```
    pub fn start(&self) {
        self.note_start();
        self.advance(Phase::Draining);
        self.shared.started.cancel();
    }

    /// Starts as a successor takes over: streams and background tasks see it, and readiness stays as it is. With
    /// `moves`, connections go to the successor as well, and no response is marked as the last.
    pub(crate) fn start_succession(&self, moves: bool) {
        let successor = if moves { SUCCEEDED | MOVES | MOVED } else { SUCCEEDED };
        self.shared.successor.store(successor, Ordering::Relaxed);
        self.start();
        if let Some(follower) = self.shared.follower.get() {
            follower.drain.start_succession(moves);
        }
    }

    /// Starts as the service stops for a while: readiness turns, and connections go to where the next process finds
    /// them.
    pub(crate) fn start_storing(&self) {
        self.shared.successor.store(MOVES | STORES | MOVED, Ordering::Relaxed);
        self.start();
    }

    /// Stops moving connections: what is left ends here.
    pub(crate) fn stop_moving(&self) {
        self.shared.successor.fetch_and(!MOVES, Ordering::Relaxed);
        self.shared.stopped_moving.notify_waiters();
        if let Some(follower) = self.shared.follower.get() {
            follower.drain.stop_moving();
        }
    }

    /// Resolves when connections stop to move that were to.
    pub(crate) fn stopped_moving(&self) -> Notified<'_> {
        self.shared.stopped_moving.notified()
    }

    /// Drops what is left, at once. It starts the drain first if it has not started.
    ///
    /// Under [`Server`](crate::Server) each connection is closed where it is, in the middle of a response too. A task
    /// of [`tasks`](Self::tasks) is not dropped: it ends when it sees [`abort_token`](Self::abort_token).
    ///
    /// ```
    /// use axum_activation::{Drain, Phase};
    ///
    /// let drain = Drain::new();
    /// drain.abort();
    /// assert!(drain.abort_token().is_cancelled() && drain.token().is_cancelled());
    /// assert_eq!(drain.phase(), Phase::Aborting);
    /// ```
    pub fn abort(&self) {
        self.note_start();
        self.advance(Phase::Aborting);
        // First, so that what the token wakes there sees that it has started.
        if let Some(follower) = self.shared.follower.get() {
            follower.drain.abort();
        }
        self.shared.aborted.cancel();
    }

    /// Whether it has started. It is one atomic load, so a handler can ask it for each item of a stream.
    ///
    /// ```
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// assert!(!drain.has_started());
    /// drain.start();
    /// assert!(drain.has_started());
    /// ```
    #[inline]
    #[must_use]
    pub fn has_started(&self) -> bool {
        // Acquire pairs with the Release in `note_start`: a task that the token woke sees the flag (invariant 1).
        self.shared.has_started.load(Ordering::Acquire)
    }

    /// Whether a successor serves in place of this process: a handoff has started the drain.
    ///
    /// A stream that ends can then ask its client to connect again at once, as it is served.
    ///
    /// ```
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// drain.start(); // a stop, and no handoff
    /// assert!(!drain.has_successor());
    /// ```
    #[must_use]
    pub fn has_successor(&self) -> bool {
        self.has_started() && self.shared.successor.load(Ordering::Relaxed) & SUCCEEDED != 0
    }

    /// Whether connections go to the next process when they can.
    #[inline]
    pub(crate) fn moves(&self) -> bool {
        self.has_started() && self.shared.successor.load(Ordering::Relaxed) & MOVES != 0
    }

    /// For an HTTP/2 connection that is to leave: as many leave at a time as there are permits.
    pub(crate) fn turns(&self) -> &Arc<Semaphore> {
        self.shared.turns.get_or_init(|| Arc::new(Semaphore::new(turns())))
    }

    /// Whether connections go to the next process, or went there until it took no more.
    pub(crate) fn had_destination(&self) -> bool {
        self.has_started() && self.shared.successor.load(Ordering::Relaxed) & MOVED != 0
    }

    /// Whether the service stops for a while: a connection that cannot move, or comes back, ends here.
    pub(crate) fn stores(&self) -> bool {
        self.has_started() && self.shared.successor.load(Ordering::Relaxed) & STORES != 0
    }

    /// Whether responses are marked as the last on their connection.
    #[inline]
    pub(crate) fn closes(&self) -> bool {
        self.has_started() && self.shared.successor.load(Ordering::Relaxed) & MOVES == 0
    }

    /// Whether what is left is being aborted.
    pub(crate) fn is_aborted(&self) -> bool {
        self.shared.aborted.is_cancelled()
    }

    /// The phase now.
    ///
    /// ```
    /// use axum_activation::{Drain, Phase};
    ///
    /// let drain = Drain::new();
    /// assert_eq!(format!("{:?}", drain.phase()), "Running");
    /// ```
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.shared.phase.borrow()
    }

    /// The phase as a value to watch, for a service that shows or logs it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use axum_activation::{Drain, Phase};
    ///
    /// let drain = Drain::new();
    /// let mut phase = drain.watch();
    /// drain.start();
    /// phase.changed().await.unwrap();
    /// assert_eq!(*phase.borrow(), Phase::Draining);
    /// # }
    /// ```
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.shared.phase.subscribe()
    }

    /// Resolves when the drain has started.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// let refresh = async {
    ///     loop {
    ///         // refresh a cache
    ///         tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    ///     }
    /// };
    /// # drain.start();
    /// tokio::select! {
    ///     () = refresh => {}
    ///     () = drain.started() => println!("stopped refreshing"),
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// It only waits. Dropped, it can be asked for again.
    pub fn started(&self) -> WaitForCancellationFuture<'_> {
        self.shared.started.cancelled()
    }

    /// Resolves when what is left is being aborted.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// drain.tasks().spawn({
    ///     let drain = drain.clone();
    ///     async move {
    ///         let upload = std::future::pending::<()>(); // work that takes long
    ///         tokio::select! {
    ///             () = upload => {}
    ///             () = drain.aborted() => {} // leave a note for the next start
    ///         }
    ///     }
    /// });
    /// drain.abort();
    /// assert!(drain.finish(std::time::Duration::ZERO).await.is_clean());
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// It only waits. Dropped, it can be asked for again.
    pub fn aborted(&self) -> WaitForCancellationFuture<'_> {
        self.shared.aborted.cancelled()
    }

    /// Resolves when nothing is left.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// let (report, ()) = tokio::join!(drain.finish(Duration::from_secs(1)), drain.done());
    /// assert!(report.is_clean());
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// It only waits. Dropped, it can be asked for again.
    pub async fn done(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let _ = self.watch().wait_for(|phase| *phase == Phase::Done).await;
    }

    /// A token that is cancelled when the drain starts. It is a child: cancelling it starts no drain.
    ///
    /// It goes where a [`CancellationToken`] is expected:
    ///
    /// ```
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// let token = drain.token();
    /// drain.start();
    /// assert!(token.is_cancelled());
    ///
    /// let other = Drain::new();
    /// other.token().cancel();
    /// assert!(!other.has_started());
    /// ```
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.shared.started.child_token()
    }

    /// A token that is cancelled when what is left is aborted. It is a child: cancelling it aborts nothing.
    ///
    /// ```
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// let token = drain.abort_token();
    /// drain.start();
    /// assert!(!token.is_cancelled());
    /// drain.abort();
    /// assert!(token.is_cancelled());
    /// ```
    #[must_use]
    pub fn abort_token(&self) -> CancellationToken {
        self.shared.aborted.child_token()
    }

    /// The service's own background tasks: the drain waits for those that are spawned here, within its deadline.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use axum_activation::drain::Drain;
    ///
    /// let drain = Drain::new();
    /// let token = drain.token();
    /// drain.tasks().spawn(async move {
    ///     token.cancelled().await;
    ///     // flush what is to be flushed
    /// });
    /// drain.start();
    /// assert!(drain.finish(Duration::from_secs(1)).await.is_clean());
    /// # }
    /// ```
    ///
    /// A task that is upgraded from a request (a WebSocket) takes a [`token`](TaskTracker::token) instead, as axum
    /// spawns it.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    /// The connections that are waited for.
    pub(crate) fn connections(&self) -> &TaskTracker {
        &self.shared.connections
    }

    /// The requests that are waited for where connections are not counted.
    pub(crate) fn requests(&self) -> &TaskTracker {
        &self.shared.requests
    }

    /// The token itself, for futures that own what they wait for.
    pub(crate) fn shared_abort_token(&self) -> CancellationToken {
        self.shared.aborted.clone()
    }

    fn note_start(&self) {
        let _ = self.shared.started_at.set(Instant::now());
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

    /// How long ago it started; zero until then.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.started_at.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    fn left(&self) -> usize {
        let follower = self.shared.follower.get().map_or(0, |follower| follower.drain.left());
        self.shared.connections.len() + self.shared.requests.len() + self.shared.tasks.len() + follower
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
