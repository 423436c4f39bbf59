//! How the service is stopped: systemd.kill(5), and the time that it has.

use std::time::Duration;

use super::super::{case::Case, finding::Finding, value};

/// What a limit has above what it limits.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// Signals at which a server drains.
const DRAINING: &[&str] = &["SIGTERM", "SIGINT", "TERM", "INT", "15", "2"];

pub(super) fn kill_mode(case: &Case<'_>) -> Option<Finding> {
    let mode = case.service.text("Service", "KillMode")?;
    let problem = match mode {
        "none" => "no process is told to stop, so that none drains, and the next start finds them all",
        "mixed" if case.hands_over() => {
            "at a stop it kills at once whatever is not the main process: a predecessor that still drains after a handoff"
        }
        "process" if case.hands_over() => {
            "at a stop a predecessor that still drains after a handoff is left behind, out of anybody's control"
        }
        _ => return None,
    };
    let problem = format!("KillMode={mode}: {problem}");
    Some(Finding::error(case.service, "Service", "KillMode", problem).fix("KillMode=control-group"))
}

pub(super) fn kill_signal(case: &Case<'_>) -> Option<Finding> {
    wrong_signal(case, "KillSignal")
}

pub(super) fn restart_kill_signal(case: &Case<'_>) -> Option<Finding> {
    // As shown it is KillSignal= where it is not set itself.
    let is_copy = case.service.is_shown
        && case.service.text("Service", "RestartKillSignal") == case.service.text("Service", "KillSignal");
    if is_copy { None } else { wrong_signal(case, "RestartKillSignal") }
}

fn wrong_signal(case: &Case<'_>, directive: &'static str) -> Option<Finding> {
    let signal = case.service.text("Service", directive).filter(|signal| !DRAINING.contains(signal))?;
    let problem = format!("{directive}={signal}: a server drains at SIGTERM or SIGINT, and at no other signal");
    Some(Finding::error(case.service, "Service", directive, problem).fix(format!("{directive}=SIGTERM")))
}

pub(super) fn timeout(case: &Case<'_>) -> Option<Finding> {
    let (limit, drain) = (case.service.timeout("TimeoutStopSec"), case.wanted.drain_timeout);
    if limit > drain || limit == value::INFINITY {
        return None;
    }
    let problem = format!(
        "TimeoutStopSec={} is not above the drain timeout of {}: systemd kills what still finishes its requests",
        value::in_seconds(limit),
        value::in_words(drain)
    );
    let right = value::in_seconds(drain.saturating_add(MARGIN));
    Some(Finding::error(case.service, "Service", "TimeoutStopSec", problem).fix(format!("TimeoutStopSec={right}")))
}
