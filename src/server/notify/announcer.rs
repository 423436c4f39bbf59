//! Reports to systemd what the server does, in order, and that it still does it.
//!
//! | stage | sent when it starts | and each second |
//! | --- | --- | --- |
//! | starting | `STATUS=` | `EXTEND_TIMEOUT_USEC=` until `start_timeout` |
//! | serving | `READY=1`, `STATUS=` | `STATUS=`, if it has changed |
//! | handing over | `RELOADING=1`, `STATUS=`, `EXTEND_TIMEOUT_USEC=` | the last one, until `handoff_timeout` and a little |
//! | rolled back | `READY=1`, `STATUS=` with the reason; before that `MAINPID=`, if that was another process | as serving |
//! | handed over | `MAINPID=`, `STATUS=`, and then nothing more: the successor sends `READY=1` | |
//! | handed over at a path | `STATUS=` | `STATUS=`, if it has changed |
//! | draining | `STOPPING=1`, `STATUS=`, `EXTEND_TIMEOUT_USEC=` | the last two, until `drain_timeout` and a little |
//! | finished | `STATUS=`: the report or the error | |
//!
//! A stage starts with one message, so that no state is seen without its status.

use std::{io, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{
    health::HealthCheck,
    reporter::{Reporter, Stage, in_time},
    settings::Settings,
    watchdog,
};
use crate::{
    drain::{Drain, DrainReport, Stats},
    error::Error,
    handoff::set_main_pid,
    log,
    notify::State,
    sys::timer::Ticker,
};

/// How often the status is sent again if it has changed, and more time is asked for.
const RENEWAL: Duration = Duration::from_secs(1);

/// What the end may take beyond the drain: aborting what is left, and what `main` still does.
const MARGIN: Duration = Duration::from_secs(5);

/// How long the final status may take to be sent.
const FINAL_STATUS_LIMIT: Duration = Duration::from_secs(1);

/// Reports for one server as long as it is kept.
#[derive(Debug)]
pub(in crate::server) struct Announcer {
    reporter: Arc<Reporter>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Announcer {
    /// Reports that the server starts, unless it is a successor: until that is ready, the old process reports.
    pub(in crate::server) fn start(
        is_successor: bool,
        settings: &Settings,
        drain: Drain,
        stats: Stats,
        drain_timeout: Duration,
    ) -> Self {
        let notifier = settings.notifier();
        let until = settings.start_timeout.map(in_time);
        let stage = if is_successor { Stage::Silent } else { Stage::Starting(until) };
        let reporter = Arc::new(Reporter::new(stage, notifier, drain, stats, drain_timeout));
        reporter.renew();
        // Without a runtime nothing is served.
        let runtime = Handle::try_current().ok().filter(|_| reporter.notifier.is_active());
        let tasks = runtime.map_or(Vec::new(), |runtime| tasks(&reporter, settings, &runtime));
        Self { reporter, _tasks: tasks }
    }

    /// Whether there is a service manager to report to.
    pub(in crate::server) fn is_active(&self) -> bool {
        self.reporter.notifier.is_active()
    }

    /// Every route accepts.
    pub(in crate::server) fn ready(&self) {
        // The first feeding comes along: where another process has fed until now, its last one may be half the time ago.
        let well = self.reporter.notifier.watchdog().map(|_| State::Watchdog);
        self.reporter.enter(Stage::Serving, [State::Ready].into_iter().chain(well));
    }

    /// A successor is being brought up.
    pub(in crate::server) fn handing_over(&self, limit: Duration) {
        let until = in_time(limit.saturating_add(MARGIN));
        self.reporter.enter(Stage::HandingOver(until), [State::Reloading]);
    }

    /// The successor failed, and this process serves on.
    pub(in crate::server) fn rolled_back(&self, reason: &str) {
        self.take_back();
        self.reporter.note_rollback(reason);
        self.reporter.enter(Stage::Serving, [State::Ready]);
    }

    /// Makes this process the main one of the unit again, if another was to be.
    ///
    /// With `NotifyAccess=main` systemd hears this as long as it does not know the other one. Later it hears the other one only, and
    /// what it does when that ends is its own to decide.
    pub(in crate::server) fn take_back(&self) {
        self.reporter.resume(State::MainPid(std::process::id()));
    }

    /// Makes the process `pid` the main one of the unit. Returns when systemd has noted it; from now on `pid` reports.
    pub(in crate::server) async fn set_main_pid(&self, pid: u32) {
        let notifier = self.reporter.notifier.clone();
        if !notifier.is_active() {
            return;
        }
        self.reporter.silence();
        // systemd may leave "reloading" before it hears READY=1: the one who asked for the handoff hears of the commit earlier.
        let status = State::Status(format!("serving: process {pid} takes over"));
        set_main_pid(&notifier, pid, Some(status)).await;
    }

    /// The successor serves. If it is of this unit, it reports from now on.
    pub(in crate::server) fn handed_over(&self) {
        self.reporter.enter(Stage::HandedOver, []);
    }

    /// The successor has died, and this process serves again.
    pub(in crate::server) fn serving_again(&self) {
        if self.reporter.has_handed_over() {
            self.reporter.enter(Stage::Serving, []);
        }
    }

    /// The service ends: not when another process takes its place.
    pub(in crate::server) fn stopping(&self) {
        let until = in_time(self.reporter.drain_left().saturating_add(MARGIN));
        self.reporter.enter(Stage::Draining(until), [State::Stopping]);
    }

    /// Reports how the server has ended. Returns when that is sent.
    pub(in crate::server) async fn finish(self, ended: &Result<DrainReport, Error>) {
        let status = match ended {
            Ok(report) => report.to_string(),
            Err(error) => format!("failed: {error:?}"),
        };
        self.reporter.enter(Stage::Finished(status), []);
        if let Err(error) = self.reporter.notifier.flush(FINAL_STATUS_LIMIT).await {
            log::warn!(?error, "the service manager has not got the final status");
        }
    }
}

impl Drop for Announcer {
    /// The future of the server was dropped, so there is no report. The process may go on.
    fn drop(&mut self) {
        if !self.reporter.is_finished() {
            self.reporter.enter(Stage::Finished("dropped, serves no more".to_owned()), []);
        }
    }
}

/// Renews the status, and feeds the watchdog if there is one.
fn tasks(reporter: &Arc<Reporter>, settings: &Settings, runtime: &Handle) -> Vec<AbortOnDropHandle<()>> {
    let renewing = runtime.spawn(renew(Arc::clone(reporter)));
    let feed = |interval| feed(Arc::clone(reporter), interval, settings.health_check.clone());
    let feeding = reporter.notifier.watchdog().map(|interval| runtime.spawn(feed(interval)));
    [Some(renewing), feeding].into_iter().flatten().map(AbortOnDropHandle::new).collect()
}

async fn renew(reporter: Arc<Reporter>) {
    let renewing = async || -> io::Result<()> {
        let ticker = Ticker::every(RENEWAL)?;
        loop {
            ticker.tick().await?;
            reporter.renew();
        }
    };
    if let Err(error) = renewing().await {
        log::error!(%error, "the service manager gets no statistics: there is no timer");
    }
}

async fn feed(reporter: Arc<Reporter>, interval: Duration, check: Option<HealthCheck>) {
    if let Err(error) = watchdog::feed(&reporter, interval, check).await {
        log::error!(%error, "the watchdog is not fed: there is no timer");
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::UnixDatagram, time::timeout};

    use super::*;
    use crate::notify::Notifier;

    const INTERVAL: Duration = Duration::from_millis(100);

    async fn hear(manager: &UnixDatagram) -> Option<String> {
        let mut bytes = vec![0; 4096];
        let length = timeout(2 * INTERVAL, manager.recv(&mut bytes)).await.ok()?.unwrap();
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_process_that_is_not_the_main_one_says_nothing_and_feeds_no_watchdog() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(&path).unwrap().with_watchdog(INTERVAL);
        let settings = Settings { notifier: Some(notifier), ..Settings::default() };
        let announcer = Announcer::start(true, &settings, Drain::new(), Stats::default(), INTERVAL);
        assert_eq!(hear(&manager).await, None, "the predecessor reports");

        announcer.ready();
        let expected = "READY=1\nWATCHDOG=1\nSTATUS=serving: 0 connections, 0 requests in flight\n";
        assert_eq!(hear(&manager).await.as_deref(), Some(expected));
        assert_eq!(hear(&manager).await.as_deref(), Some("WATCHDOG=1\n"));

        let handing = announcer.set_main_pid(7);
        let reported = async {
            let heard = hear(&manager).await?;
            if heard == "WATCHDOG=1\n" { hear(&manager).await } else { Some(heard) }
        };
        tokio::select! {
            () = handing => panic!("the manager has not answered"),
            reported = reported => assert_eq!(reported.as_deref(), Some("MAINPID=7\nSTATUS=serving: process 7 takes over\n")),
        }
        hear(&manager).await.expect("BARRIER=1");
        // One may have been on its way.
        assert!(hear(&manager).await.is_none() || hear(&manager).await.is_none(), "the successor reports");
        announcer.stopping();
        drop(announcer);
        assert_eq!(hear(&manager).await, None);
    }
}
