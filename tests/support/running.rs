//! A server on a thread and a port of its own.

use std::{
    net::{SocketAddr, TcpListener},
    sync::mpsc::{self, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::Router;
use axum_activation::{
    ActivatedListeners, ListenAddr, Server,
    drain::{Drain, DrainReport, ListenerReport, ListenerStats, Stats},
};
use tokio::{
    runtime::Builder,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{spawn_blocking, yield_now},
};

use super::{
    http::Client,
    wait::{eventually, find},
};

/// Turns after which all tasks of a runtime are at rest, if nothing comes from outside.
const TURNS: usize = 1000;

/// The least that timers tell apart.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Serves on a thread of its own.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) stats: Stats,
    clock: UnboundedSender<Command>,
    is_paused: bool,
    thread: Option<JoinHandle<DrainReport>>,
}

/// What the test does on the paused clock; answered when all that was due has been done.
#[derive(Debug)]
struct Command {
    action: Action,
    done: mpsc::Sender<()>,
}

#[derive(Debug)]
enum Action {
    Advance(Duration),
    /// Outside of the runtime it would start at a time of the real clock.
    Drain(Drain),
}

impl Running {
    /// Serves `router` on a socket of its own.
    pub(crate) fn start(router: Router, configure: impl FnOnce(Server) -> Server) -> Self {
        Self::serve(fallback(), router, configure, false)
    }

    /// As `start`, on a clock that stands still but for [`advance`](Self::advance).
    pub(crate) fn start_paused(router: Router, configure: impl FnOnce(Server) -> Server) -> Self {
        Self::serve(fallback(), router, configure, true)
    }

    /// Serves `router` on a socket that others hold too.
    pub(crate) fn on(socket: &TcpListener, router: Router, configure: impl FnOnce(Server) -> Server) -> Self {
        let copy = socket.try_clone().expect("a copy of the listening socket");
        let activated = ActivatedListeners::builder().socket("http", copy).build().expect("a name");
        Self::serve(activated, router, configure, false)
    }

    fn serve(
        activated: ActivatedListeners,
        router: Router,
        configure: impl FnOnce(Server) -> Server,
        is_paused: bool,
    ) -> Self {
        let addr = address(&activated);
        let server =
            configure(Server::new(activated).serve("http", router).without_signals().without_handoff_signals());
        let (drain, stats) = (server.drain(), server.stats());
        let (started, starting) = channel();
        let (clock, commands) = unbounded_channel();
        let thread = thread::spawn(move || {
            let mut builder = if is_paused { Builder::new_current_thread() } else { Builder::new_multi_thread() };
            let runtime = builder.worker_threads(2).enable_all().start_paused(is_paused).build().expect("a runtime");
            let report = runtime.block_on(async {
                if is_paused {
                    tokio::spawn(keep_paused(commands));
                }
                let started = async { started.send(()).expect("the test waits") };
                tokio::join! { biased; server.run(), started }.0
            });
            // What is stuck on a thread is left behind.
            runtime.shutdown_background();
            report.expect("it serves")
        });
        starting.recv().expect("it serves");
        Self { addr, drain, stats, clock, is_paused, thread: Some(thread) }
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr).expect("it accepts")
    }

    pub(crate) fn now(&self) -> ListenerStats {
        self.stats.read().remove(0)
    }

    /// Returns when the stats are so.
    #[track_caller]
    pub(crate) fn wait(&self, so: impl Fn(&ListenerStats) -> bool) {
        find(|| format!("{:?}", self.now()), || so(&self.now()).then_some(()));
    }

    /// Moves the paused clock on, and returns when all that was due then has been done.
    pub(crate) fn advance(&self, time: Duration) {
        self.act(Action::Advance(time));
    }

    fn act(&self, action: Action) {
        let (done, is_done) = channel();
        // A server that has ended has no clock any more.
        if self.clock.send(Command { action, done }).is_ok() {
            let _ = is_done.recv();
        }
    }

    /// Moves the paused clock on step by step until `holds` comes true: the time until then. For limits that are kept by a timer of
    /// the kernel, which goes on.
    #[track_caller]
    pub(crate) fn advance_by_steps(&self, step: Duration, mut holds: impl FnMut() -> bool) -> Duration {
        let mut passed = Duration::ZERO;
        eventually("what is to happen as time passes", || {
            let is_so = holds();
            if !is_so {
                self.advance(step);
                passed += step;
            }
            is_so
        });
        passed
    }

    /// Starts the drain.
    pub(crate) fn start_drain(&self) {
        if self.is_paused { self.act(Action::Drain(self.drain.clone())) } else { self.drain.start() }
    }

    /// Drains, and returns what it reports.
    #[track_caller]
    pub(crate) fn end(self) -> DrainReport {
        self.start_drain();
        self.report()
    }

    /// Drains, and fails unless that takes `time` on the paused clock, no less and no more.
    #[track_caller]
    pub(crate) fn end_after(self, time: Duration) -> DrainReport {
        self.start_drain();
        self.ended_after(time)
    }

    /// Fails unless it ends after `time` on the paused clock, no sooner and no later.
    #[track_caller]
    pub(crate) fn ended_after(self, time: Duration) -> DrainReport {
        self.advance(time - TICK);
        assert!(!self.has_ended(), "before {time:?} have passed");
        self.advance(TICK);
        let report = self.report();
        assert_eq!(report.elapsed, time, "{report}");
        report
    }

    /// Waits for its end: what it reports.
    #[track_caller]
    pub(crate) fn report(mut self) -> DrainReport {
        eventually("it ends", || self.has_ended());
        let thread = self.thread.take().expect("waited for once");
        thread.join().expect("it serves")
    }

    #[track_caller]
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain.abort();
    }
}

/// Keeps the clock of this runtime where it is, and moves it on when it is asked to.
///
/// An idle runtime on a paused clock goes on to its next timer at once, unless a blocking task runs.
async fn keep_paused(mut commands: UnboundedReceiver<Command>) {
    loop {
        let received = spawn_blocking(move || (commands.blocking_recv(), commands)).await;
        let Ok((Some(Command { action, done }), rest)) = received else { return };
        commands = rest;
        at_rest().await;
        match action {
            Action::Advance(time) => tokio::time::advance(time).await,
            Action::Drain(drain) => drain.start(),
        }
        at_rest().await;
        let _ = done.send(());
    }
}

/// Returns when all tasks of this runtime have had their turns.
pub(crate) async fn at_rest() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

fn fallback() -> ActivatedListeners {
    ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build().expect("a free port")
}

/// The connections of a report with one route: finished, closed idle, with errors, aborted.
pub(crate) fn connections(report: &DrainReport) -> [u64; 4] {
    let [ListenerReport { finished, idle_closed, errors, aborted, .. }] = &report.listeners[..] else {
        panic!("one route: {report}");
    };
    [*finished, *idle_closed, *errors, *aborted]
}

fn address(activated: &ActivatedListeners) -> SocketAddr {
    match activated.iter().next().and_then(|socket| socket.addr().cloned()) {
        Some(ListenAddr::Tcp(addr)) => addr,
        other => panic!("no TCP address: {other:?}"),
    }
}
