//! A server on a thread and a port of its own, and its clients by hand.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::{
    net::{SocketAddr, TcpListener},
    sync::mpsc::channel,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use axum::Router;
use axum_activation::{
    ActivatedListeners, ListenAddr, Server,
    drain::{Drain, DrainReport, ListenerReport, ListenerStats, Stats},
};

use super::wire::Wire;

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves on a thread of its own.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) stats: Stats,
    thread: Option<JoinHandle<DrainReport>>,
}

impl Running {
    /// Serves `router` on a socket of its own.
    pub(crate) fn start(router: Router, configure: impl FnOnce(Server) -> Server) -> Self {
        let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build().expect("a free port");
        Self::serve(activated, router, configure)
    }

    /// Serves `router` on a socket that others hold too.
    pub(crate) fn on(socket: &TcpListener, router: Router, configure: impl FnOnce(Server) -> Server) -> Self {
        let copy = socket.try_clone().expect("a copy of the listening socket");
        let activated = ActivatedListeners::builder().socket("http", copy).build().expect("a name");
        Self::serve(activated, router, configure)
    }

    fn serve(activated: ActivatedListeners, router: Router, configure: impl FnOnce(Server) -> Server) -> Self {
        let addr = address(&activated);
        let server =
            configure(Server::new(activated).serve("http", router).without_signals().without_handoff_signals());
        let (drain, stats) = (server.drain(), server.stats());
        let (started, starting) = channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let report = runtime.block_on(async {
                let started = async { started.send(()).expect("the test waits") };
                tokio::join! { biased; server.run(), started }.0
            });
            // What is stuck on a thread is left behind.
            runtime.shutdown_background();
            report.expect("it serves")
        });
        starting.recv().expect("it serves");
        Self { addr, drain, stats, thread: Some(thread) }
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.addr).expect("it accepts")
    }

    pub(crate) fn now(&self) -> ListenerStats {
        self.stats.read().remove(0)
    }

    /// Returns when the figures are so.
    #[track_caller]
    pub(crate) fn wait(&self, so: impl Fn(&ListenerStats) -> bool) {
        eventually(|| so(&self.now()), || format!("{:?}", self.now()));
    }

    /// Drains, and returns what it reports.
    #[track_caller]
    pub(crate) fn end(self) -> DrainReport {
        self.drain.start();
        self.report()
    }

    /// Waits for its end: what it reports.
    #[track_caller]
    pub(crate) fn report(mut self) -> DrainReport {
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

/// The connections of a report with one route: finished, closed idle, with errors, cut.
pub(crate) fn connections(report: &DrainReport) -> [u64; 4] {
    let [ListenerReport { finished, idle_closed, errors, aborted, .. }] = &report.listeners[..] else {
        panic!("one route: {report}");
    };
    [*finished, *idle_closed, *errors, *aborted]
}

/// Returns when it is so.
#[track_caller]
pub(crate) fn eventually(so: impl Fn() -> bool, state: impl Fn() -> String) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "still not: {}", state());
        thread::yield_now();
    }
}

fn address(activated: &ActivatedListeners) -> SocketAddr {
    match activated.iter().next().and_then(|socket| socket.addr().cloned()) {
        Some(ListenAddr::Tcp(addr)) => addr,
        other => panic!("no TCP address: {other:?}"),
    }
}
