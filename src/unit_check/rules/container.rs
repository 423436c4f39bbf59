//! A `.container` file, of which Podman makes a service: `podman-systemd.unit(5)`.
//!
//! Podman stands between systemd and the service: it passes the sockets to process 1 of the container, forwards the
//! stop signal, and has limits of its own. So some faults are in the section `[Container]`, which systemd does not
//! read.

use std::time::Duration;

use super::{
    super::{
        command,
        finding::{Finding, Severity},
        service::Service,
        units::CONTAINER,
        value,
    },
    stop::MARGIN,
};

/// How long Podman lets a container stop where nothing is said.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Podman reports `READY=1` as soon as the container has started, unless `Notify=true` leaves that to the service.
pub(super) fn notify(service: &Service<'_>) -> Option<Finding> {
    let text = service.unit.text("Container", "Notify").unwrap_or_default();
    if !service.unit.is_container || !service.wanted.notify || text == "healthy" || value::boolean(text) == Some(true) {
        return None;
    }
    let problem = "Notify= is not true: Podman says READY=1 as soon as the container has started, before the service can answer, \
                   and what the service says of itself is not heard";
    Some(Finding { severity: Severity::Warning, ..finding(service, "Notify", problem.to_owned()) }.fix("Notify=true"))
}

/// With an init in the container, process 1 is not the service. Podman passes sockets with `LISTEN_PID=1`.
pub(super) fn first_process(service: &Service<'_>) -> Option<Finding> {
    if !service.unit.is_container || !service.is_socket_activated() || !service.unit.is_yes("Container", "RunInit") {
        return None;
    }
    let problem = "RunInit=yes: the sockets are passed to process 1 of the container, which is the init then, so that the \
                   service refuses them";
    Some(finding(service, "RunInit", problem.to_owned()).fix("RunInit=no"))
}

/// A shell as process 1 gets the sockets and the signals.
pub(super) fn shell(service: &Service<'_>) -> Option<Finding> {
    let fixed = command::with_exec(service.unit.text("Container", "Exec")?)?;
    let problem = "Exec= has a shell as process 1 of the container: LISTEN_PID names the shell, so that the service refuses its \
                   sockets, and the signals that end it go to the shell";
    Some(finding(service, "Exec", problem.to_owned()).fix(format!("Exec={fixed}")))
}

/// `podman stop` kills the container after `StopTimeout=`, 10 s by default. That has to be above the drain timeout.
pub(super) fn stop_timeout(service: &Service<'_>) -> Option<Finding> {
    let (limit, drain) = (stop_span(service), service.wanted.drain_timeout);
    if !service.unit.is_container || limit > drain {
        return None;
    }
    let problem = format!(
        "StopTimeout={} is not above the drain timeout of {}: Podman kills what still finishes its requests",
        value::in_seconds(limit),
        value::in_words(drain)
    );
    let right = value::in_seconds(drain.saturating_add(MARGIN));
    Some(finding(service, "StopTimeout", problem).fix(format!("StopTimeout={right}")))
}

/// systemd kills Podman after `TimeoutStopSec=`. `podman rm`, which stops the container, is a command of the service.
pub(super) fn stop_limit(service: &Service<'_>) -> Option<Finding> {
    let (limit, podman) = (service.unit.timeout("TimeoutStopSec"), stop_span(service));
    if !service.unit.is_container || limit > podman || limit <= service.wanted.drain_timeout {
        return None;
    }
    let problem = format!(
        "TimeoutStopSec={} is not above StopTimeout={}: systemd kills Podman before the container has stopped",
        value::in_seconds(limit),
        value::in_seconds(podman)
    );
    let right = value::in_seconds(podman.saturating_add(MARGIN));
    Some(Finding::error(service.unit, "Service", "TimeoutStopSec", problem).fix(format!("TimeoutStopSec={right}")))
}

fn stop_span(service: &Service<'_>) -> Duration {
    service.unit.last("Container", &["StopTimeout"], value::time_span).unwrap_or(DEFAULT_STOP_TIMEOUT)
}

/// A finding about a setting of the `.container` file.
fn finding(service: &Service<'_>, directive: &'static str, problem: String) -> Finding {
    let file = format!("{}{CONTAINER}", service.unit.stem());
    let finding = Finding::error(service.unit, "Container", directive, problem).fix_in(file.clone(), "Container");
    Finding { unit: file, ..finding }
}
