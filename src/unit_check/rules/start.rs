//! How the service is started, and what it is given: `systemd.service(5)` and `systemd.exec(5)`.

use std::{
    fs::File,
    io::{self, Read},
};

use super::super::{
    command,
    finding::{Finding, Severity},
    service::Service,
    value,
};

/// How many descriptors a service has open beside its connections.
const BESIDE: u64 = 64;

/// How much of a file is read. A script that starts a service is shorter.
const LONGEST_SCRIPT: u64 = 64 * 1024;

/// The soft limit that systemd sets by default, and the hard one.
const DEFAULT_OPEN_FILES: u64 = 1024;
const DEFAULT_HARD_LIMIT: u64 = 524_288;

/// `sh -c program` makes the shell the main process. `sh -c 'exec program'` does not.
pub(super) fn shell(service: &Service<'_>) -> Option<Finding> {
    let start = service.unit.list("Service", &["ExecStart"]).pop()?;
    let fixed = command::with_exec(&start.value)?;
    let problem = "ExecStart= has a shell between systemd and the service: LISTEN_PID names the shell, so that the service \
                   refuses its sockets, and the signals that end it go to the shell";
    Some(
        Finding::error(service.unit, "Service", "ExecStart", problem.to_owned())
            .fix("ExecStart=")
            .fix(format!("ExecStart={fixed}")),
    )
}

/// A script between systemd and the service, which is right only where it ends with `exec`.
pub(super) fn script(service: &Service<'_>) -> Option<Finding> {
    let start = service.unit.list("Service", &["ExecStart"]).pop()?;
    let path = command::script_file(&start.value)?;
    let finding = |problem: &str| {
        let problem = format!("ExecStart= starts the script {path}{problem}");
        let program = format!("ExecStart=/usr/local/bin/{}", service.unit.prefix());
        Finding::error(service.unit, "Service", "ExecStart", problem).fix("ExecStart=").fix(program)
    };
    match first_bytes(&path) {
        Ok(text) if !text.starts_with(b"#!") => None,
        Ok(text) if String::from_utf8_lossy(&text).lines().any(command::execs) => None,
        Ok(_) => Some(finding(
            ", which does not exec the service: LISTEN_PID names the script, so that the service refuses its sockets, and the signals \
             that end it go to the script; write `exec` before the program, or start the program itself",
        )),
        Err(_) if command::is_script_name(&start.value) => {
            let finding = finding(
                ", which must exec the service: otherwise LISTEN_PID names the script, and the service refuses its sockets; let \
                 the check run where the script can be read, or start the program itself",
            );
            Some(Finding { severity: Severity::Warning, ..finding })
        }
        Err(_) => None,
    }
}

/// Reads as much of a file as a script has.
fn first_bytes(path: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST_SCRIPT).read_to_end(&mut text)?;
    Ok(text)
}

/// systemd clears `O_NONBLOCK` on the sockets at each start, unless `NonBlocking=yes`. The flag is in the open file
/// description, which the process that still drains has too. A blocking `accept` there would stop a thread of its
/// runtime.
pub(super) fn non_blocking(service: &Service<'_>) -> Option<Finding> {
    if !service.is_socket_activated() || service.unit.is_yes("Service", "NonBlocking") {
        return None;
    }
    let problem = "NonBlocking=no, the default: each start clears O_NONBLOCK on the shared sockets, also under a process that \
                   still accepts from them";
    Some(Finding::warning(service.unit, "Service", "NonBlocking", problem.to_owned()).fix("NonBlocking=yes"))
}

/// systemd counts starts (`DefaultStartLimitBurst=`, 5 in 10 s). A service with sockets that is over the limit fails
/// together with its socket unit, and then clients are refused.
pub(super) fn start_limit(service: &Service<'_>) -> Option<Finding> {
    if !service.is_socket_activated() || !is_start_limited(service) {
        return None;
    }
    let problem = "StartLimitIntervalSec= is not 0: one start too many (by default the sixth within 10 s) fails the service, \
                   and closes its sockets with it";
    Some(
        Finding::warning(service.unit, "Unit", "StartLimitIntervalSec", problem.to_owned())
            .fix("StartLimitIntervalSec=0"),
    )
}

/// Whether starts are limited. The old names in `[Service]` count still.
fn is_start_limited(service: &Service<'_>) -> bool {
    let service = service.unit;
    let interval = service
        .last("Unit", &["StartLimitIntervalSec", "StartLimitInterval"], value::time_span)
        .or_else(|| service.last("Service", &["StartLimitInterval"], value::time_span));
    let burst = service
        .last("Unit", &["StartLimitBurst"], value::size)
        .or_else(|| service.last("Service", &["StartLimitBurst"], value::size));
    !interval.is_some_and(|interval| interval.is_zero()) && burst != Some(0)
}

/// `StandardInput=socket` and its like use the socket up: it is not passed as `LISTEN_FDS`.
pub(super) fn standard_input(service: &Service<'_>) -> Option<Finding> {
    let directives = ["StandardInput", "StandardOutput", "StandardError"];
    let directive = directives.into_iter().find(|key| service.unit.text("Service", key) == Some("socket"))?;
    let right = if directive == "StandardInput" { "null" } else { "journal" };
    let problem = format!("{directive}=socket: the socket becomes a standard stream, and is not passed as LISTEN_FDS");
    Some(Finding::error(service.unit, "Service", directive, problem).fix(format!("{directive}={right}")))
}

/// A service that counts as active after it has ended is not started by a connection.
pub(super) fn remains(service: &Service<'_>) -> Option<Finding> {
    if !service.is_socket_activated() || !service.unit.is_yes("Service", "RemainAfterExit") {
        return None;
    }
    let problem =
        "RemainAfterExit=yes: once the service has ended it counts as active, so that no connection starts it again";
    Some(Finding::error(service.unit, "Service", "RemainAfterExit", problem.to_owned()).fix("RemainAfterExit=no"))
}

/// A service that has ended as it was idle is to be started by a connection, and by nothing else.
pub(super) fn restarts(service: &Service<'_>) -> Option<Finding> {
    let found = service.unit.text("Service", "Restart").filter(|found| matches!(*found, "always" | "on-success"))?;
    if !service.wanted.idle_exit || service.is_per_connection() {
        return None;
    }
    let problem = format!("Restart={found}: the service is started again as soon as it has ended as it was idle");
    Some(Finding::error(service.unit, "Service", "Restart", problem).fix("Restart=on-failure"))
}

/// Each connection is a descriptor, and so is each entry of the fd store when the next process gets it.
pub(super) fn open_files(service: &Service<'_>) -> Option<Finding> {
    let soft = |text: &str| value::size(text.split(':').next().unwrap_or_default());
    let limit = service.unit.last("Service", &["LimitNOFILE"], soft).unwrap_or(DEFAULT_OPEN_FILES);
    let needed = service
        .wanted
        .connections
        .saturating_add(service.wanted.fd_store)
        .saturating_add(BESIDE)
        .max(DEFAULT_OPEN_FILES);
    // Podman sets the limit of a container.
    if limit >= needed || service.unit.is_container {
        return None;
    }
    let problem =
        format!("LimitNOFILE= lets the service open {limit} files, and it needs {needed}: connections wait or fail");
    let right = format!("LimitNOFILE={needed}:{}", needed.max(DEFAULT_HARD_LIMIT));
    Some(Finding::warning(service.unit, "Service", "LimitNOFILE", problem).fix(right))
}
