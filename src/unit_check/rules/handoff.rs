//! What a handoff needs of the unit: `systemctl reload`, and the time for it (`systemd.service(5)`).

use std::path::{Path, PathBuf};

use super::{
    super::{command, finding::Finding, service::Service, value},
    stop::MARGIN,
};

/// The signals at which a server hands over.
const HANDING_OVER: &[&str] = &["SIGHUP", "SIGUSR2", "HUP", "USR2", "1", "12"];

const NO_COMMAND: &str = "ExecReload= is missing: systemctl reload, which hands the service over, is refused";

const ONLY_REFRESHES: &str = "ExecReload= is missing: with RefreshOnReload= systemctl reload may succeed, and it refreshes extensions \
                              and credentials without handing the service over";

const ASKS_AFTERWARDS: &str = "ExecReloadPost= asks for a handoff when the reload, which is one, is done: each reload starts two \
                               processes";

const ONLY_A_SIGNAL: &str = "ExecReload= only sends a signal: systemctl reload returns before the handoff is done, and succeeds \
                             when it fails; let a command ask for it and wait (ActivatedListenersBuilder::handoff_socket)";

const TWO_REQUESTS: &str = "ExecReload= beside Type=notify-reload: systemd sends the signal itself, so that a second handoff is \
                            asked for while the first one runs";

/// `systemctl reload` has to ask for a handoff, and should wait for its outcome: with `Type=notify-reload` by itself,
/// otherwise by a command.
pub(super) fn reload_command(service: &Service<'_>) -> Option<Finding> {
    let commands = service.unit.list("Service", &["ExecReload"]);
    let asks_itself = service.service_type() == "notify-reload";
    if !service.hands_over() || asks_itself && commands.is_empty() {
        return None;
    }
    let warning = |problem: &str| Finding::warning(service.unit, "Service", "ExecReload", problem.to_owned());
    let asking = format!("ExecReload=/usr/local/bin/handoff_request {}", handoff_socket(service).display());
    if asks_itself {
        Some(warning(TWO_REQUESTS).fix("ExecReload="))
    } else if commands.is_empty() {
        let problem = if refreshes(service) { ONLY_REFRESHES } else { NO_COMMAND };
        Some(Finding::error(service.unit, "Service", "ExecReload", problem.to_owned()).fix(asking))
    } else if commands.iter().all(|command| command::only_signals(&command.value)) {
        Some(warning(ONLY_A_SIGNAL).fix("ExecReload=").fix(asking))
    } else {
        None
    }
}

/// `RefreshOnReload=` of systemd 258 and later: a boolean or what is refreshed.
fn refreshes(service: &Service<'_>) -> bool {
    service.unit.text("Service", "RefreshOnReload").is_some_and(|text| value::boolean(text) != Some(false))
}

/// A request in `ExecReloadPost=` (systemd 259) would be a second handoff after the first one.
pub(super) fn second_request(service: &Service<'_>) -> Option<Finding> {
    let commands = service.unit.list("Service", &["ExecReloadPost"]);
    let asks = |line: &str| command::only_signals(line) || command::program(line) == "handoff_request";
    if !service.hands_over() || !commands.iter().any(|command| asks(&command.value)) {
        return None;
    }
    let finding = Finding::warning(service.unit, "Service", "ExecReloadPost", ASKS_AFTERWARDS.to_owned());
    Some(finding.fix("ExecReloadPost="))
}

/// The next process starts in the directory of the first start. The kernel knows it without symbolic links, and `PWD`
/// keeps them.
pub(super) fn working_directory(service: &Service<'_>) -> Option<Finding> {
    let directory = service.unit.text("Service", "WorkingDirectory")?.trim_start_matches(['-', '!']);
    let directory = service.unit.expand(directory);
    if !service.hands_over() || service.wanted.successor_directory || !may_be_switched(Path::new(&directory)) {
        return None;
    }
    let variables = service.unit.list("Service", &["Environment"]);
    let variables = variables.iter().flat_map(|setting| command::words(&setting.value));
    let shown =
        variables.filter_map(|word| word.text.strip_prefix("PWD=").map(|path| service.unit.expand(path))).next_back();
    if shown.is_some_and(|shown| Path::new(&shown) == Path::new(&directory)) {
        return None;
    }
    let problem = format!(
        "WorkingDirectory={directory} leads through a symbolic link, and no Environment=PWD= says so: after a handoff the new \
         version runs in the directory of the old one, and cannot start once that is removed"
    );
    let fix = format!("Environment=PWD={directory}");
    Some(Finding::error(service.unit, "Service", "WorkingDirectory", problem).fix(fix))
}

/// Whether it is a symbolic link on this machine, or is called as the one is that a deploy switches.
fn may_be_switched(directory: &Path) -> bool {
    directory.is_absolute()
        && directory.ancestors().any(|part| part.is_symlink() || part.file_name().is_some_and(|name| name == "current"))
}

/// `systemd.service(5)` takes the end of the main process by SIGTERM for a clean one, and not that of a command. So a
/// stop during a reload leaves the unit failed.
pub(super) fn stopped_reload(service: &Service<'_>) -> Option<Finding> {
    let commands = ["ExecReload", "ExecReloadPost"].map(|key| service.unit.list("Service", &[key])).concat();
    let waits =
        commands.iter().any(|command| !command::only_signals(&command.value) && !command.value.starts_with('-'));
    let signal = signal_name(service.unit.text("Service", "KillSignal").unwrap_or("SIGTERM"));
    let successes = service.unit.words("Service", "SuccessExitStatus");
    // A number there is an exit status.
    let is_success = successes.iter().any(|success| success.strip_prefix("SIG").unwrap_or(success) == signal);
    if !service.hands_over() || !waits || is_success {
        return None;
    }
    let problem = format!(
        "SuccessExitStatus= lacks SIG{signal}: a stop in the middle of a reload ends the command of ExecReload= by it, and the \
         unit is left failed"
    );
    let right = format!("SuccessExitStatus=SIG{signal}");
    Some(Finding::warning(service.unit, "Service", "SuccessExitStatus", problem).fix(right))
}

/// `TERM` of `SIGTERM` and of 15.
fn signal_name(signal: &str) -> &str {
    match signal {
        "15" => "TERM",
        "2" => "INT",
        signal => signal.strip_prefix("SIG").unwrap_or(signal),
    }
}

/// `ReloadSignal=` of `Type=notify-reload` has to start a handoff.
pub(super) fn reload_signal(service: &Service<'_>) -> Option<Finding> {
    if !service.hands_over() || service.service_type() != "notify-reload" {
        return None;
    }
    let signal = service.unit.text("Service", "ReloadSignal").filter(|signal| !HANDING_OVER.contains(signal))?;
    let problem = format!("ReloadSignal={signal}: a server hands over at SIGHUP or SIGUSR2, and at no other signal");
    Some(Finding::error(service.unit, "Service", "ReloadSignal", problem).fix("ReloadSignal=SIGHUP"))
}

/// systemd gives a reload up after `TimeoutStartSec=`.
pub(super) fn timeout(service: &Service<'_>) -> Option<Finding> {
    let (limit, handoff) = (service.unit.timeout("TimeoutStartSec"), service.wanted.handoff_timeout);
    if !service.hands_over() || limit > handoff || limit == value::INFINITY {
        return None;
    }
    let problem = format!(
        "TimeoutStartSec={}, which limits a reload too, is not above the handoff timeout of {}: systemd gives up first",
        value::in_seconds(limit),
        value::in_words(handoff)
    );
    let right = value::in_seconds(handoff.saturating_add(MARGIN));
    Some(Finding::error(service.unit, "Service", "TimeoutStartSec", problem).fix(format!("TimeoutStartSec={right}")))
}

/// The path at which a command asks for a handoff: as the service says, or a proposal.
fn handoff_socket(service: &Service<'_>) -> PathBuf {
    let known = service.wanted.handoff_socket.clone();
    known.unwrap_or_else(|| PathBuf::from(format!("/run/{}/handoff.sock", service.unit.prefix())))
}
