//! A `.container` file, of which Podman makes a service: podman-systemd.unit(5).

use std::time::Duration;

use super::{
    super::{
        case::Case,
        command,
        finding::{Finding, Severity},
        units::CONTAINER,
        value,
    },
    stop::MARGIN,
};

/// How long Podman lets a container stop where nothing is said.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn notify(case: &Case<'_>) -> Option<Finding> {
    let text = case.service.text("Container", "Notify").unwrap_or_default();
    if !case.service.is_container || !case.wanted.notify || text == "healthy" || value::boolean(text) == Some(true) {
        return None;
    }
    let problem = "Notify= is not true: Podman says READY=1 as soon as the container has started, before the service can answer, \
                   and what the service says of itself is not heard";
    Some(Finding { severity: Severity::Warning, ..finding(case, "Notify", problem.to_owned()) }.fix("Notify=true"))
}

/// Podman passes sockets with `LISTEN_PID=1`.
pub(super) fn first_process(case: &Case<'_>) -> Option<Finding> {
    if !case.service.is_container || !case.is_socket_activated() || !case.service.is_yes("Container", "RunInit") {
        return None;
    }
    let problem = "RunInit=yes: the sockets are passed to process 1 of the container, which is the init then, so that the \
                   service refuses them";
    Some(finding(case, "RunInit", problem.to_owned()).fix("RunInit=no"))
}

pub(super) fn shell(case: &Case<'_>) -> Option<Finding> {
    let fixed = command::with_exec(case.service.text("Container", "Exec")?)?;
    let problem = "Exec= has a shell as process 1 of the container: LISTEN_PID names the shell, so that the service refuses its \
                   sockets, and the signals that end it go to the shell";
    Some(finding(case, "Exec", problem.to_owned()).fix(format!("Exec={fixed}")))
}

pub(super) fn stop_timeout(case: &Case<'_>) -> Option<Finding> {
    let (limit, drain) = (stop_span(case), case.wanted.drain_timeout);
    if !case.service.is_container || limit > drain {
        return None;
    }
    let problem = format!(
        "StopTimeout={} is not above the drain timeout of {}: Podman kills what still finishes its requests",
        value::in_seconds(limit),
        value::in_words(drain)
    );
    let right = value::in_seconds(drain.saturating_add(MARGIN));
    Some(finding(case, "StopTimeout", problem).fix(format!("StopTimeout={right}")))
}

/// `podman rm`, which stops the container, is a command of the service.
pub(super) fn stop_limit(case: &Case<'_>) -> Option<Finding> {
    let (limit, podman) = (case.service.timeout("TimeoutStopSec"), stop_span(case));
    if !case.service.is_container || limit > podman || limit <= case.wanted.drain_timeout {
        return None;
    }
    let problem = format!(
        "TimeoutStopSec={} is not above StopTimeout={}: systemd kills Podman before the container has stopped",
        value::in_seconds(limit),
        value::in_seconds(podman)
    );
    let right = value::in_seconds(podman.saturating_add(MARGIN));
    Some(Finding::error(case.service, "Service", "TimeoutStopSec", problem).fix(format!("TimeoutStopSec={right}")))
}

fn stop_span(case: &Case<'_>) -> Duration {
    case.service.last("Container", &["StopTimeout"], value::time_span).unwrap_or(DEFAULT_STOP_TIMEOUT)
}

/// About a setting of the `.container` file.
fn finding(case: &Case<'_>, directive: &'static str, problem: String) -> Finding {
    let file = format!("{}{CONTAINER}", case.service.stem());
    let finding = Finding::error(case.service, "Container", directive, problem).fix_in(file.clone(), "Container");
    Finding { unit: file, ..finding }
}
