//! What the service sends to the service manager, and whether that reads it: `sd_notify(3)`, and `Type=` and
//! `NotifyAccess=` of `systemd.service(5)`.

use std::time::Duration;

use super::super::{
    finding::{Finding, Severity},
    service::Service,
    value,
};

/// `Type=` says what systemd takes for a start that has succeeded, and whether it takes a new main process from the
/// service.
pub(super) fn service_type(service: &Service<'_>) -> Option<Finding> {
    let speaks = service.wanted.notify || service.wanted.handoff;
    let (severity, problem) = match service.service_type() {
        "forking" | "dbus" => (Severity::Error, "systemd waits for what this service never does, and the start fails"),
        "oneshot" if service.is_per_connection() => return None,
        "oneshot" => (Severity::Error, "systemd waits for the service to end before it counts as started"),
        "notify" | "notify-reload" if speaks => return None,
        "notify" | "notify-reload" => {
            (Severity::Error, "the service says no READY=1, so the start fails when TimeoutStartSec= is over")
        }
        _ if service.hands_over() => {
            (Severity::Error, "systemd takes no new main process from it, so the service refuses each handoff by spawn")
        }
        _ if speaks && !is_heard(service) && !is_silenced(service) && !service.is_per_connection() => (
            Severity::Warning,
            "READY=1, STATUS= and EXTEND_TIMEOUT_USEC= are not heard; a start counts as done before the service can answer",
        ),
        _ => return None,
    };
    let problem = format!("Type={}: {problem}", service.service_type());
    let finding = Finding { severity, ..Finding::error(service.unit, "Service", "Type", problem) };
    Some(finding.fix(if speaks { "Type=notify" } else { "Type=exec" }))
}

/// An explicit `NotifyAccess=none`, which systemd overrules where it must, and which otherwise makes it deaf.
pub(super) fn access(service: &Service<'_>) -> Option<Finding> {
    if !is_silenced(service) || !(service.wanted.notify || service.wanted.handoff) {
        return None;
    }
    let finding = if is_forced(service) {
        let problem = "NotifyAccess=none: systemd reads it as main, as this service cannot do without; say so";
        Finding::warning(service.unit, "Service", "NotifyAccess", problem.to_owned())
    } else {
        let problem =
            "NotifyAccess=none: nothing that the service says is heard, neither READY=1 nor the end of its drain";
        Finding::error(service.unit, "Service", "NotifyAccess", problem.to_owned())
    };
    Some(finding.fix("NotifyAccess=main"))
}

/// Children inherit `NOTIFY_SOCKET`. Podman's `all` is right for a container, whose processes systemd does not start.
pub(super) fn access_for_all(service: &Service<'_>) -> Option<Finding> {
    let is_open = service.unit.text("Service", "NotifyAccess") == Some("all") && !service.unit.is_container;
    if !is_open || !(service.wanted.notify || service.wanted.handoff) {
        return None;
    }
    let problem = "NotifyAccess=all: systemd also believes the children of the service, which inherit NOTIFY_SOCKET; the READY=1, \
                   STOPPING=1 or MAINPID= of one of them changes the state of the service. The main process names its \
                   successor itself, so main is enough";
    Some(Finding::warning(service.unit, "Service", "NotifyAccess", problem.to_owned()).fix("NotifyAccess=main"))
}

/// A watchdog that the service does not feed kills it.
pub(super) fn watchdog(service: &Service<'_>) -> Option<Finding> {
    if service.wanted.notify || watchdog_span(service).is_zero() {
        return None;
    }
    let problem =
        "WatchdogSec= is set and the service does not feed the watchdog: systemd kills it when the time is over";
    Some(Finding::error(service.unit, "Service", "WatchdogSec", problem.to_owned()).fix("WatchdogSec=0"))
}

/// The notify socket is a Unix socket, and the service opens its own end of it.
pub(super) fn address_families(service: &Service<'_>) -> Option<Finding> {
    let speaks = service.wanted.notify && (service.is_notify() || is_heard(service)) || service.hands_over();
    if !speaks || may_open_unix(service) {
        return None;
    }
    let problem = "RestrictAddressFamilies= leaves out AF_UNIX: the service cannot reach the notify socket, so that READY=1 \
                   never comes";
    Some(
        Finding::error(service.unit, "Service", "RestrictAddressFamilies", problem.to_owned())
            .fix("RestrictAddressFamilies=AF_UNIX"),
    )
}

/// Whether systemd reads messages of the main process.
fn is_heard(service: &Service<'_>) -> bool {
    let access = service.unit.text("Service", "NotifyAccess");
    access.is_some_and(|access| access != "none") || is_forced(service)
}

/// Whether the unit says `NotifyAccess=none` itself.
fn is_silenced(service: &Service<'_>) -> bool {
    !service.unit.is_shown && service.unit.text("Service", "NotifyAccess") == Some("none")
}

/// Settings that need a notify socket, so that systemd opens it to the main process at least.
fn is_forced(service: &Service<'_>) -> bool {
    let stored = service.unit.last("Service", &["FileDescriptorStoreMax"], value::size);
    service.is_notify() || !watchdog_span(service).is_zero() || stored.is_some_and(|stored| stored > 0)
}

/// The interval of the watchdog; zero where there is none.
fn watchdog_span(service: &Service<'_>) -> Duration {
    let span = service.unit.last("Service", &["WatchdogSec"], value::time_span).unwrap_or_default();
    if span == value::INFINITY { Duration::ZERO } else { span }
}

/// Whether `RestrictAddressFamilies=` allows `AF_UNIX`. The first assignment makes it a list of what is allowed or,
/// with `~`, of what is denied. Later ones add to it or take from it (`systemd.exec(5)`).
fn may_open_unix(service: &Service<'_>) -> bool {
    let (mut is_allow_list, mut unix_is_listed) = (false, false);
    for (i, setting) in service.unit.list("Service", &["RestrictAddressFamilies"]).into_iter().enumerate() {
        let (denies, families) = match setting.value.strip_prefix('~') {
            Some(families) => (true, families),
            None => (false, setting.value.as_str()),
        };
        if i == 0 || families == "none" {
            (is_allow_list, unix_is_listed) = (!denies, false);
        }
        if families.split_whitespace().any(|family| family == "AF_UNIX" || family == "AF_LOCAL") {
            unix_is_listed = is_allow_list != denies;
        }
    }
    is_allow_list == unix_is_listed
}
