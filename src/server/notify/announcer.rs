//! Says what the server does, in order, and that it still does it.
//!
//! | stage | is told when it begins | and each second |
//! | --- | --- | --- |
//! | starting | `STATUS=` | `EXTEND_TIMEOUT_USEC=` until `start_timeout` |
//! | serving | `READY=1`, `STATUS=` | `STATUS=`, if it has changed |
//! | handing over | `RELOADING=1`, `STATUS=`, `EXTEND_TIMEOUT_USEC=` | the last one, until `handoff_timeout` and a little |
//! | rolled back | `READY=1`, `STATUS=` with the reason; before that `MAINPID=`, if another had been named | as serving |
//! | handed over | `MAINPID=`, `STATUS=`, and then nothing more: the successor says `READY=1` | |
//! | draining | `STOPPING=1`, `STATUS=`, `EXTEND_TIMEOUT_USEC=` | the last two, until `drain_timeout` and a little |
//! | over | `STATUS=`: the report or the error | |
//!
//! What begins a stage is one message, so that nobody sees a state without its status.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{Settings, status::Open, verdict::HealthCheck, watchdog};
use crate::{
    drain::{Drain, DrainReport, Stats},
    error::Error,
    log,
    notify::{Notifier, State},
    sys::timer::Ticker,
};

/// How often the status is renewed, and with it the time that something may still take.
const RENEWAL: Duration = Duration::from_secs(1);

/// For how long a renewal holds: a process that is stuck gets no more than that.
const EXTENSION: Duration = Duration::from_secs(10);

/// What the end may take beyond the drain: aborting what is left, and whatever `main` still does.
const MARGIN: Duration = Duration::from_secs(5);

/// How long the manager may take to hear of the new main process.
const BARRIER_LIMIT: Duration = Duration::from_secs(5);

/// How long the last words may take to be sent.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Speaks for one server as long as it is kept.
#[derive(Debug)]
pub(in crate::server) struct Announcer {
    told: Arc<Told>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// What the manager was told.
#[derive(Debug)]
pub(super) struct Told {
    notifier: Notifier,
    drain: Drain,
    stats: Stats,
    drain_timeout: Duration,
    spoken: Mutex<Spoken>,
}

#[derive(Debug)]
struct Spoken {
    stage: Stage,
    status: String,
    fault: Option<String>,
    /// Why the last handoff failed.
    rolled_back: Option<String>,
}

#[derive(Debug)]
enum Stage {
    /// May take until then, if it is known.
    Starting(Option<Instant>),
    Serving,
    /// A successor is being brought up, which may take until then.
    HandingOver(Instant),
    /// Another process is the service's main one now, or still is, and speaks.
    Silent,
    /// May take until then.
    Draining(Instant),
    /// With these last words.
    Over(String),
}

impl Announcer {
    /// Says that the server starts, unless the process before it is still the one to speak; `settings` keep what is not about speaking.
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
        let spoken = Spoken { stage, status: String::new(), fault: None, rolled_back: None };
        let told = Arc::new(Told { notifier, drain, stats, drain_timeout, spoken: Mutex::new(spoken) });
        told.renew();
        // Without a runtime nothing is served.
        let runtime = Handle::try_current().ok().filter(|_| told.notifier.is_active());
        let tasks = runtime.map_or(Vec::new(), |runtime| tasks(&told, settings, &runtime));
        Self { told, _tasks: tasks }
    }

    /// Whether there is a service manager to speak to.
    pub(in crate::server) fn is_heard(&self) -> bool {
        self.told.notifier.is_active()
    }

    /// Every route accepts.
    pub(in crate::server) fn ready(&self) {
        // The first feeding comes along: where another process has fed until now, its last one may be half the time ago.
        let well = self.told.notifier.watchdog().map(|_| State::Watchdog);
        self.told.enter(Stage::Serving, [State::Ready].into_iter().chain(well));
    }

    /// A successor is being brought up.
    pub(in crate::server) fn handing_over(&self, limit: Duration) {
        let until = in_time(limit.saturating_add(MARGIN));
        self.told.enter(Stage::HandingOver(until), [State::Reloading]);
    }

    /// The successor failed, and this process serves on.
    pub(in crate::server) fn rolled_back(&self, reason: &str) {
        self.take_back();
        self.told.lock().rolled_back = Some(reason.to_owned());
        self.told.enter(Stage::Serving, [State::Ready]);
    }

    /// Is the service's main process again, if another was to be.
    ///
    /// With `NotifyAccess=main` systemd hears this as long as it does not know the other one. Later it hears the other one only, and
    /// what it does when that ends is its own to decide.
    pub(in crate::server) fn take_back(&self) {
        let mut spoken = self.told.lock();
        if matches!(spoken.stage, Stage::Silent) && self.told.notifier.is_active() {
            spoken.stage = Stage::Serving;
            self.told.notifier.notify([State::MainPid(std::process::id())]);
        }
    }

    /// The process `pid` is the service's main one from now on. Returns when the manager knows.
    pub(in crate::server) async fn hand_to(&self, pid: u32) {
        let notifier = self.told.notifier.clone();
        if !notifier.is_active() {
            return;
        }
        self.told.lock().stage = Stage::Silent;
        // The manager may leave "reloading" before it hears READY=1: whoever asked for the handoff is told of the commit earlier.
        notifier.notify([State::MainPid(pid), State::Status(format!("serving: process {pid} takes over"))]);
        if let Err(error) = notifier.barrier(BARRIER_LIMIT).await {
            log::warn!(?error, pid, "the service manager does not say that it knows the new main process");
        }
    }

    /// The service ends: not when another process takes its place.
    pub(in crate::server) fn stopping(&self) {
        let left = self.told.drain_timeout.saturating_sub(self.told.drain.elapsed());
        let until = in_time(left.saturating_add(MARGIN));
        self.told.enter(Stage::Draining(until), [State::Stopping]);
    }

    /// The last words, sent before it returns.
    pub(in crate::server) async fn over(self, ended: &Result<DrainReport, Error>) {
        let words = match ended {
            Ok(report) => report.to_string(),
            Err(error) => format!("failed: {error:?}"),
        };
        self.told.enter(Stage::Over(words), []);
        if let Err(error) = self.told.notifier.flush(LAST_WORDS).await {
            log::warn!(?error, "the service manager has not heard the last words");
        }
    }
}

impl Drop for Announcer {
    /// The serving was dropped, which is no end in order; nothing is known of the process.
    fn drop(&mut self) {
        if !matches!(self.told.lock().stage, Stage::Over(_) | Stage::Silent) {
            self.told.enter(Stage::Over("dropped, serves no more".to_owned()), []);
        }
    }
}

impl Told {
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.lock().stage, Stage::Serving | Stage::HandingOver(_))
    }

    /// Feeds the watchdog, unless it is for another process to do so.
    pub(super) fn feed(&self) {
        if !matches!(self.lock().stage, Stage::Silent) {
            self.notifier.notify([State::Watchdog]);
        }
    }

    /// What the health check has found.
    pub(super) fn note_health(&self, fault: Option<String>) {
        let mut spoken = self.lock();
        if let Some(fault) = fault.as_deref().filter(|_| spoken.fault.is_none()) {
            log::warn!(fault, "the service is not well, the watchdog is not fed");
        }
        spoken.fault = fault;
    }

    /// Begins a stage: `change` and its status, in one message. What comes after another process has taken over is not told.
    fn enter(&self, stage: Stage, change: impl IntoIterator<Item = State>) {
        let mut spoken = self.lock();
        let is_silent = matches!(spoken.stage, Stage::Silent) && !matches!(stage, Stage::Serving);
        spoken.stage = if is_silent { Stage::Silent } else { stage };
        if self.notifier.is_active() && !is_silent {
            let status = self.status(&spoken);
            spoken.status.clone_from(&status);
            let extension = spoken.stage.extension().map(State::ExtendTimeout);
            self.notifier.notify(change.into_iter().chain([State::Status(status)]).chain(extension));
        }
    }

    /// Says what has changed, and that what takes time goes on.
    fn renew(&self) {
        let mut spoken = self.lock();
        if !self.notifier.is_active() || matches!(spoken.stage, Stage::Silent) {
            return;
        }
        let status = Some(self.status(&spoken)).filter(|status| *status != spoken.status);
        if let Some(status) = &status {
            spoken.status.clone_from(status);
        }
        let states: Vec<_> =
            status.map(State::Status).into_iter().chain(spoken.stage.extension().map(State::ExtendTimeout)).collect();
        if !states.is_empty() {
            self.notifier.notify(states);
        }
    }

    fn status(&self, spoken: &Spoken) -> String {
        let open = || Open::now(&self.stats, &self.drain);
        match &spoken.stage {
            Stage::Starting(_) => "starting: waiting until the service is ready".to_owned(),
            Stage::Serving => open().serving(spoken.fault.as_deref(), spoken.rolled_back.as_deref()),
            Stage::HandingOver(_) => "handing over: waiting until the next process is ready".to_owned(),
            Stage::Silent => String::new(),
            Stage::Draining(_) => open().draining(self.drain_timeout),
            Stage::Over(words) => words.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spoken> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    /// How much longer it may take, as far as that is to be told now.
    fn extension(&self) -> Option<Duration> {
        let (Self::Starting(Some(until)) | Self::HandingOver(until) | Self::Draining(until)) = self else {
            return None;
        };
        let left = until.saturating_duration_since(Instant::now());
        Some(left.min(EXTENSION)).filter(|time| !time.is_zero())
    }
}

/// The moment so much later; one in years where there is none.
fn in_time(time: Duration) -> Instant {
    const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + YEARS)
}

/// Renews what is told, and feeds the watchdog if there is one.
fn tasks(told: &Arc<Told>, settings: &Settings, runtime: &Handle) -> Vec<AbortOnDropHandle<()>> {
    let renewing = runtime.spawn(renew(Arc::clone(told)));
    let feed = |interval| feed(Arc::clone(told), interval, settings.health_check.clone());
    let feeding = told.notifier.watchdog().map(|interval| runtime.spawn(feed(interval)));
    [Some(renewing), feeding].into_iter().flatten().map(AbortOnDropHandle::new).collect()
}

async fn renew(told: Arc<Told>) {
    let renewing = async || -> io::Result<()> {
        let ticker = Ticker::every(RENEWAL)?;
        loop {
            ticker.tick().await?;
            told.renew();
        }
    };
    if let Err(error) = renewing().await {
        log::error!(%error, "the service manager is told no statistics: there is no timer");
    }
}

async fn feed(told: Arc<Told>, interval: Duration, check: Option<HealthCheck>) {
    if let Err(error) = watchdog::feed(&told, interval, check).await {
        log::error!(%error, "the watchdog is not fed: there is no timer");
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::UnixDatagram, time::timeout};

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    #[test]
    fn who_may_take_any_time_asks_for_more_of_it() {
        for stage in [Stage::Starting as fn(Option<Instant>) -> Stage, |until| Stage::Draining(until.unwrap())] {
            assert_eq!(stage(Some(in_time(Duration::MAX))).extension(), Some(EXTENSION));
            assert_eq!(stage(Some(in_time(Duration::ZERO))).extension(), None);
        }
    }

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
        assert_eq!(hear(&manager).await, None, "the predecessor speaks");

        announcer.ready();
        let expected = "READY=1\nWATCHDOG=1\nSTATUS=serving: 0 connections, 0 requests in flight\n";
        assert_eq!(hear(&manager).await.as_deref(), Some(expected));
        assert_eq!(hear(&manager).await.as_deref(), Some("WATCHDOG=1\n"));

        let handing = announcer.hand_to(7);
        let told = async {
            let heard = hear(&manager).await?;
            if heard == "WATCHDOG=1\n" { hear(&manager).await } else { Some(heard) }
        };
        tokio::select! {
            () = handing => panic!("the manager has not answered"),
            told = told => assert_eq!(told.as_deref(), Some("MAINPID=7\nSTATUS=serving: process 7 takes over\n")),
        }
        hear(&manager).await.expect("BARRIER=1");
        // One may have been on its way.
        assert!(hear(&manager).await.is_none() || hear(&manager).await.is_none(), "the successor speaks");
        announcer.stopping();
        drop(announcer);
        assert_eq!(hear(&manager).await, None);
    }
}
