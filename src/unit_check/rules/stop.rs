//! How the service is stopped: systemd.kill(5), and the time that it has.

use std::time::Duration;

use super::super::{finding::Finding, service::Service, value};

/// What a limit has above what it limits.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// Signals at which a server drains.
const DRAINING: &[&str] = &["SIGTERM", "SIGINT", "TERM", "INT", "15", "2"];

pub(super) fn kill_mode(service: &Service<'_>) -> Option<Finding> {
    let mode = service.unit.text("Service", "KillMode")?;
    let problem = match mode {
        "none" => "no process is told to stop, so that none drains, and the next start finds them all",
        "mixed" if service.hands_over() => {
            "at a stop it kills at once whatever is not the main process: a predecessor that still drains after a handoff"
        }
        "process" if service.hands_over() => {
            "at a stop a predecessor that still drains after a handoff is left behind, out of anybody's control"
        }
        _ => return None,
    };
    let problem = format!("KillMode={mode}: {problem}");
    Some(Finding::error(service.unit, "Service", "KillMode", problem).fix("KillMode=control-group"))
}

pub(super) fn kill_signal(service: &Service<'_>) -> Option<Finding> {
    wrong_signal(service, "KillSignal")
}

pub(super) fn restart_kill_signal(service: &Service<'_>) -> Option<Finding> {
    // As shown it is KillSignal= where it is not set itself.
    let is_copy = service.unit.is_shown
        && service.unit.text("Service", "RestartKillSignal") == service.unit.text("Service", "KillSignal");
    if is_copy { None } else { wrong_signal(service, "RestartKillSignal") }
}

fn wrong_signal(service: &Service<'_>, directive: &'static str) -> Option<Finding> {
    let signal = service.unit.text("Service", directive).filter(|signal| !DRAINING.contains(signal))?;
    let problem = format!("{directive}={signal}: a server drains at SIGTERM or SIGINT, and at no other signal");
    Some(Finding::error(service.unit, "Service", directive, problem).fix(format!("{directive}=SIGTERM")))
}

pub(super) fn timeout(service: &Service<'_>) -> Option<Finding> {
    let (limit, drain) = (service.unit.timeout("TimeoutStopSec"), service.wanted.drain_timeout);
    if limit > drain || limit == value::INFINITY {
        return None;
    }
    let problem = format!(
        "TimeoutStopSec={} is not above the drain timeout of {}: systemd kills what still finishes its requests",
        value::in_seconds(limit),
        value::in_words(drain)
    );
    let right = value::in_seconds(drain.saturating_add(MARGIN));
    Some(Finding::error(service.unit, "Service", "TimeoutStopSec", problem).fix(format!("TimeoutStopSec={right}")))
}
