//! How the service is stopped: `systemd.kill(5)`, and the time that it has.

use std::time::Duration;

use super::super::{finding::Finding, service::Service, value};

/// How much longer than what it limits a limit is proposed.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// The signals at which a server drains.
const DRAINING: &[&str] = &["SIGTERM", "SIGINT", "TERM", "INT", "15", "2"];

/// Which processes of the unit systemd stops, and how. After a handoff two processes of the unit drain, and both need
/// their time.
pub(super) fn kill_mode(service: &Service<'_>) -> Option<Finding> {
    let mode = service.unit.text("Service", "KillMode")?;
    let problem = match mode {
        "none" => "no process gets a signal at a stop, so that none drains, and the next start finds them all",
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

/// The signal of a stop has to start a drain.
pub(super) fn kill_signal(service: &Service<'_>) -> Option<Finding> {
    wrong_signal(service, "KillSignal")
}

/// The signal of a restart has to start a drain. It is `KillSignal=` where it is not set.
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

/// systemd sends SIGKILL when `TimeoutStopSec=` is over. The requests that still finish then are lost.
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
