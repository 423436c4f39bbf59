//! What was reported to systemd last, and what is to be reported next.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::status::Open;
use crate::{
    drain::{Drain, Stats},
    log,
    notify::{Notifier, State},
};

/// For how long a renewal holds: a process that is stuck gets no more than that.
const EXTENSION: Duration = Duration::from_secs(10);

/// Reports the state of one server, one stage after the other. Its clones of drain and statistics are where the status comes from.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) notifier: Notifier,
    drain: Drain,
    stats: Stats,
    drain_timeout: Duration,
    reported: Mutex<ReportedState>,
}

#[derive(Debug)]
struct ReportedState {
    stage: Stage,
    /// The last `STATUS=`.
    status: String,
    /// What the health check has found.
    fault: Option<String>,
    /// Why the last handoff failed.
    rolled_back: Option<String>,
}

/// How far a server is in its life.
#[derive(Debug)]
pub(super) enum Stage {
    /// May take until then, if it is known.
    Starting(Option<Instant>),
    Serving,
    /// A successor starts, which may take until then.
    HandingOver(Instant),
    /// The successor serves, and what is left here ends or moves to it. It is of another unit: it reports for itself.
    HandedOver,
    /// Another process is the main one of the unit, and reports.
    Silent,
    /// May take until then.
    Draining(Instant),
    /// With this final status.
    Finished(String),
}

impl Reporter {
    /// Reports from `stage` on; nothing is sent yet.
    pub(super) fn new(stage: Stage, notifier: Notifier, drain: Drain, stats: Stats, drain_timeout: Duration) -> Self {
        let state = ReportedState { stage, status: String::new(), fault: None, rolled_back: None };
        Self { notifier, drain, stats, drain_timeout, reported: Mutex::new(state) }
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.lock().stage, Stage::Serving | Stage::HandingOver(_) | Stage::HandedOver)
    }

    /// Feeds the watchdog, unless it is for another process to do so.
    pub(super) fn feed(&self) {
        if !matches!(self.lock().stage, Stage::Silent) {
            self.notifier.notify([State::Watchdog]);
        }
    }

    /// What the health check has found.
    pub(super) fn note_health(&self, fault: Option<String>) {
        let mut reported = self.lock();
        if let Some(fault) = fault.as_deref().filter(|_| reported.fault.is_none()) {
            log::warn!(fault, "the service is not well, the watchdog is not fed");
        }
        reported.fault = fault;
    }

    /// Whether there is nothing more to report.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.lock().stage, Stage::Finished(_) | Stage::Silent)
    }

    /// How much of the drain's time is left.
    pub(super) fn drain_left(&self) -> Duration {
        self.drain_timeout.saturating_sub(self.drain.elapsed())
    }

    /// From now on the status says why the last handoff failed.
    pub(super) fn note_rollback(&self, reason: &str) {
        self.lock().rolled_back = Some(reason.to_owned());
    }

    /// Whether a successor serves, and this process still reports.
    pub(super) fn has_handed_over(&self) -> bool {
        matches!(self.lock().stage, Stage::HandedOver)
    }

    /// From now on another process reports.
    pub(super) fn silence(&self) {
        self.lock().stage = Stage::Silent;
    }

    /// Reports again after another process was to: `change` alone, if it was so.
    pub(super) fn resume(&self, change: State) {
        let mut reported = self.lock();
        if matches!(reported.stage, Stage::Silent) && self.notifier.is_active() {
            reported.stage = Stage::Serving;
            self.notifier.notify([change]);
        }
    }

    /// Starts a stage: `change` and its status, in one message. Only serving ends the silence of a process that is not the main one.
    pub(super) fn enter(&self, stage: Stage, change: impl IntoIterator<Item = State>) {
        let mut reported = self.lock();
        let is_silent = matches!(reported.stage, Stage::Silent) && !matches!(stage, Stage::Serving);
        reported.stage = if is_silent { Stage::Silent } else { stage };
        if self.notifier.is_active() && !is_silent {
            let status = self.status(&reported);
            reported.status.clone_from(&status);
            let extension = reported.stage.extension().map(State::ExtendTimeout);
            self.notifier.notify(change.into_iter().chain([State::Status(status)]).chain(extension));
        }
    }

    /// Sends the status if it has changed, and asks for more time where a stage takes time.
    pub(super) fn renew(&self) {
        let mut reported = self.lock();
        if !self.notifier.is_active() || matches!(reported.stage, Stage::Silent) {
            return;
        }
        let status = Some(self.status(&reported)).filter(|status| *status != reported.status);
        if let Some(status) = &status {
            reported.status.clone_from(status);
        }
        let states: Vec<_> =
            status.map(State::Status).into_iter().chain(reported.stage.extension().map(State::ExtendTimeout)).collect();
        if !states.is_empty() {
            self.notifier.notify(states);
        }
    }

    fn status(&self, reported: &ReportedState) -> String {
        let open = || Open::now(&self.stats, &self.drain);
        match &reported.stage {
            Stage::Starting(_) => "starting: waiting until the service is ready".to_owned(),
            Stage::Serving => open().serving(reported.fault.as_deref(), reported.rolled_back.as_deref()),
            Stage::HandingOver(_) => "handing over: waiting until the next process is ready".to_owned(),
            Stage::HandedOver => open().handed_over(self.drain_timeout),
            Stage::Silent => String::new(),
            Stage::Draining(_) => open().draining(self.drain_timeout),
            Stage::Finished(status) => status.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ReportedState> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    /// How much more time it asks for now.
    fn extension(&self) -> Option<Duration> {
        let (Self::Starting(Some(until)) | Self::HandingOver(until) | Self::Draining(until)) = self else {
            return None;
        };
        let left = until.saturating_duration_since(Instant::now());
        Some(left.min(EXTENSION)).filter(|time| !time.is_zero())
    }
}

/// The moment so much later; one in ten years if that is too far for an `Instant`.
pub(super) fn in_time(time: Duration) -> Instant {
    const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + YEARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_take_any_time_asks_for_more_of_it() {
        for stage in [Stage::Starting as fn(Option<Instant>) -> Stage, |until| Stage::Draining(until.unwrap())] {
            assert_eq!(stage(Some(in_time(Duration::MAX))).extension(), Some(EXTENSION));
            assert_eq!(stage(Some(in_time(Duration::ZERO))).extension(), None);
        }
    }
}
