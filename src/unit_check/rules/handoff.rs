//! What a hand-over needs: `systemctl reload`, and the time for it.

use std::path::PathBuf;

use super::{
    super::{case::Case, command, finding::Finding, value},
    stop::MARGIN,
};

/// Signals at which a server hands over.
const HANDING_OVER: &[&str] = &["SIGHUP", "SIGUSR2", "HUP", "USR2", "1", "12"];

const NO_COMMAND: &str = "ExecReload= is missing: systemctl reload, which hands the service over, is refused";

const ONLY_A_SIGNAL: &str = "ExecReload= only sends a signal: systemctl reload returns before the hand-over is done, and succeeds \
                             when it fails; let a command ask for it and wait (Server::handoff_socket)";

const TWO_REQUESTS: &str = "ExecReload= beside Type=notify-reload: systemd sends the signal itself, so that a second hand-over is \
                            asked for while the first one runs";

pub(super) fn reload_command(case: &Case<'_>) -> Option<Finding> {
    let commands = case.service.list("Service", &["ExecReload"]);
    let asks_itself = case.service_type() == "notify-reload";
    if !case.hands_over() || asks_itself && commands.is_empty() {
        return None;
    }
    let warning = |problem: &str| Finding::warning(case.service, "Service", "ExecReload", problem.to_owned());
    let asking = format!("ExecReload=/usr/local/bin/handoff_request {}", handoff_socket(case).display());
    if asks_itself {
        Some(warning(TWO_REQUESTS).mend("ExecReload="))
    } else if commands.is_empty() {
        Some(Finding::error(case.service, "Service", "ExecReload", NO_COMMAND.to_owned()).mend(asking))
    } else if commands.iter().all(|command| command::only_signals(&command.value)) {
        Some(warning(ONLY_A_SIGNAL).mend("ExecReload=").mend(asking))
    } else {
        None
    }
}

/// systemd.service(5) takes the end of the main process by SIGTERM for a clean one, and not that of a command.
pub(super) fn stopped_reload(case: &Case<'_>) -> Option<Finding> {
    let commands = case.service.list("Service", &["ExecReload"]);
    let waits =
        commands.iter().any(|command| !command::only_signals(&command.value) && !command.value.starts_with('-'));
    let signal = signal_name(case.service.text("Service", "KillSignal").unwrap_or("SIGTERM"));
    let successes = case.service.words("Service", "SuccessExitStatus");
    // A number there is an exit status.
    let is_success = successes.iter().any(|success| success.strip_prefix("SIG").unwrap_or(success) == signal);
    if !case.hands_over() || !waits || is_success {
        return None;
    }
    let problem = format!(
        "SuccessExitStatus= lacks SIG{signal}: a stop in the middle of a reload ends the command of ExecReload= by it, and the \
         unit is left failed"
    );
    let right = format!("SuccessExitStatus=SIG{signal}");
    Some(Finding::warning(case.service, "Service", "SuccessExitStatus", problem).mend(right))
}

/// `TERM` of `SIGTERM` and of 15.
fn signal_name(signal: &str) -> &str {
    match signal {
        "15" => "TERM",
        "2" => "INT",
        signal => signal.strip_prefix("SIG").unwrap_or(signal),
    }
}

pub(super) fn reload_signal(case: &Case<'_>) -> Option<Finding> {
    if !case.hands_over() || case.service_type() != "notify-reload" {
        return None;
    }
    let signal = case.service.text("Service", "ReloadSignal").filter(|signal| !HANDING_OVER.contains(signal))?;
    let problem = format!("ReloadSignal={signal}: a server hands over at SIGHUP or SIGUSR2, and at no other signal");
    Some(Finding::error(case.service, "Service", "ReloadSignal", problem).mend("ReloadSignal=SIGHUP"))
}

pub(super) fn timeout(case: &Case<'_>) -> Option<Finding> {
    let (limit, handoff) = (case.service.timeout("TimeoutStartSec"), case.wanted.handoff_timeout);
    if !case.hands_over() || limit > handoff || limit == value::INFINITY {
        return None;
    }
    let problem = format!(
        "TimeoutStartSec={}, which limits a reload too, is not above the hand-over timeout of {}: systemd gives up first",
        value::in_seconds(limit),
        value::in_words(handoff)
    );
    let right = value::in_seconds(handoff.saturating_add(MARGIN));
    Some(Finding::error(case.service, "Service", "TimeoutStartSec", problem).mend(format!("TimeoutStartSec={right}")))
}

fn handoff_socket(case: &Case<'_>) -> PathBuf {
    let known = case.wanted.handoff_socket.clone();
    known.unwrap_or_else(|| PathBuf::from(format!("/run/{}/handoff.sock", case.service.prefix())))
}
