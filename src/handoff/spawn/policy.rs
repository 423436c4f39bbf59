//! Whether this process may start the next one itself.
//!
//! After a handoff by spawn this process ends, and the next process is not a child of the same parent. A parent that waits for
//! this process then ends the container, or starts the service once more. systemd does the same, unless it learns the new main
//! process by `sd_notify(3)`. The leader of a terminal's session closes the terminal when it ends, which ends the next process.
//! [`decide`] refuses there, before anything is started.
//!
//! A process that was started by spawn is an orphan. Its parent is an init or a subreaper that waits for no process in particular, and
//! `SYSTEMD_EXEC_PID` is the pid of the first generation. So the decision of the first generation travels: the old process starts the
//! next one with [`SUCCESSOR`] as that one's pid.

use std::{ffi::OsStr, path::Path, process};

use crate::{
    activation::{ActivatedListeners, Parent, StartContext},
    error::{Error, Kind},
    log,
    sys::terminal,
};

/// The variable that holds the process id of a process that was started by an allowed handoff.
///
/// Children of that process inherit the variable, and the pid says that it does not speak of them.
pub(crate) const SUCCESSOR: &str = "AXUM_ACTIVATION_SUCCESSOR_PID";

/// Programs that wait for their child and take its end for the end of the service. A name has at most 15 bytes (`proc_pid_comm(5)`).
const SUPERVISORS: &[&str] = &[
    // Inits of containers, where they are not PID 1.
    "tini",
    "tini-static",
    "dumb-init",
    "catatonit",
    "docker-init",
    // What starts the first process of a container that shares the pid namespace of its host.
    "conmon",
    "conmonrs",
    "containerd-shim",
    "nomad",
    // Supervisors.
    "supervisord",
    "circusd",
    "runsv",
    "s6-supervise",
    "supervise",
    "supervise-daemo",
    "perpd",
    "dinit",
    "shepherd",
    // Runners of a Procfile and its like: the end of one process ends the others.
    "foreman",
    "goreman",
    "hivemind",
    "honcho",
    "overmind",
    "process-compose",
];

/// What a process was started by.
#[derive(Clone, Debug)]
struct Start {
    pid: u32,
    parent: Parent,
    /// `SYSTEMD_EXEC_PID`: the process that systemd has started (`systemd.exec(5)`; 248 and later).
    exec_pid: Option<u32>,
    /// `INVOCATION_ID`: some process above this one is a unit of systemd.
    is_in_unit: bool,
    /// `NOTIFY_SOCKET`, and this process speaks there.
    speaks: bool,
    /// A predecessor has started it: by a control socket, or by [`SUCCESSOR`] with its own pid.
    is_successor: bool,
    /// systemd is the init of this system (`sd_booted(3)`).
    is_systemd_booted: bool,
    /// Its terminal goes when it ends.
    leads_session: bool,
    /// supervisord has started it, or a process above it that has not started it with `exec`.
    is_supervised: bool,
}

/// The decision of a process.
#[derive(Clone, Debug)]
pub(crate) struct SpawnPolicy(Result<(), String>);

impl SpawnPolicy {
    /// Decides for this process. `option` is `handoff_by_spawn`; `speaks` says that this process tells systemd of the new main
    /// process.
    pub(crate) fn decide(option: Option<bool>, activated: &ActivatedListeners, speaks: bool) -> Self {
        let start = Start::of_this_process(speaks);
        let is_successor = start.is_successor || activated.is_spawned();
        Self(decide(option, &Start { is_successor, ..start }))
    }

    /// Logs the decision. `is_asked_for` says that this service neither forbids a handoff by spawn nor does without its signals.
    pub(crate) fn log(&self, is_asked_for: bool) {
        match &self.0 {
            Ok(()) => log::debug!("this process may start the next one to hand over to it"),
            Err(reason) if is_asked_for => log::warn!("{}", refused(reason)),
            Err(reason) => log::info!(reason, "no handoff by spawn"),
        }
    }

    /// An error where this process may not start the next one.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0.clone().map_err(refused)
    }
}

fn refused(reason: impl Into<String>) -> Error {
    Kind::SpawnRefused { reason: reason.into() }.into()
}

impl Start {
    fn of_this_process(speaks: bool) -> Self {
        let context = StartContext::of_this_process();
        let pid = |name| context.variable(name).and_then(OsStr::to_str).and_then(|pid| pid.parse().ok());
        Self {
            pid: process::id(),
            parent: context.parent.clone(),
            exec_pid: pid("SYSTEMD_EXEC_PID"),
            is_in_unit: context.variable("INVOCATION_ID").is_some(),
            speaks: speaks && context.variable("NOTIFY_SOCKET").is_some(),
            is_successor: pid(SUCCESSOR) == Some(process::id()),
            is_systemd_booted: Path::new("/run/systemd/system").is_dir(),
            leads_session: terminal::leads_session(),
            is_supervised: context.variable("SUPERVISOR_ENABLED").is_some(),
        }
    }

    /// The system's, or that of a user: both have the same name.
    fn is_systemd_parent(&self) -> bool {
        match self.parent.name.as_deref() {
            Some(name) => name == "systemd",
            // `ProtectProc=invisible` of a unit hides it.
            None => self.parent.pid == 1 && self.is_systemd_booted,
        }
    }

    /// systemd before 248 sets no `SYSTEMD_EXEC_PID`.
    fn is_started_by_systemd(&self) -> bool {
        let is_old = self.exec_pid.is_none() && self.is_in_unit && self.is_systemd_parent();
        self.exec_pid == Some(self.pid) || is_old
    }
}

/// The decision, with the reason of a refusal.
fn decide(option: Option<bool>, start: &Start) -> Result<(), String> {
    let Start { pid, parent, .. } = start;
    match option {
        Some(true) => return Ok(()),
        Some(false) => return Err("handoff_by_spawn(false) is set".to_owned()),
        None => {}
    }
    if *pid == 1 {
        return Err("this process is PID 1, and what it starts ends with it, as a container does".to_owned());
    }
    if start.is_successor {
        return Ok(());
    }
    if start.is_started_by_systemd() {
        return if start.speaks { Ok(()) } else { Err(NOT_HEARD.to_owned()) };
    }
    if start.exec_pid == Some(parent.pid) {
        return Err(format!(
            "systemd has started the parent, {parent}, and not this process (SYSTEMD_EXEC_PID), so the service ends with the parent; \
             the wrapper must exec this program (in a shell: `exec program`)"
        ));
    }
    if parent.pid <= 1 && !start.is_systemd_parent() {
        return Err(format!(
            "the parent is {parent}, and what it has started ends with this process, as a container does"
        ));
    }
    decide_by_wrapper(start)
}

/// Whether what is around this process would take its end for the end of the service.
fn decide_by_wrapper(start: &Start) -> Result<(), String> {
    let parent = &start.parent;
    match parent.name.as_deref() {
        // The daemon of pm2 has its version in its name.
        Some(name) if SUPERVISORS.contains(&name) || name.starts_with("PM2 ") => Err(format!(
            "the parent is {parent}, a supervisor that takes the end of this process for the end of the service"
        )),
        _ if start.is_supervised => Err(format!(
            "supervisord has started the parent, {parent}, or one above it (SUPERVISOR_ENABLED), and takes its end for the end of the \
             service"
        )),
        _ if start.leads_session => Err("this process leads the session of its terminal, which is closed when it ends, and ends what \
                                         runs there; start it from a shell without `exec`, or without a terminal (setsid(1))"
            .to_owned()),
        _ => Ok(()),
    }
}

const NOT_HEARD: &str = "systemd has started this process and does not learn of a new main process, so it ends the service with this one; \
                         set Type=notify in the unit, and let the server speak to systemd (no without_notify())";

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 42;
    const PARENT: u32 = 7;

    /// Started by a shell, outside of systemd.
    fn start() -> Start {
        Start {
            pid: OWN,
            parent: parent(PARENT, "bash"),
            exec_pid: None,
            is_in_unit: false,
            speaks: false,
            is_successor: false,
            is_systemd_booted: false,
            leads_session: false,
            is_supervised: false,
        }
    }

    fn parent(pid: u32, name: &str) -> Parent {
        Parent { pid, name: Some(name.to_owned()).filter(|name| !name.is_empty()) }
    }

    #[test]
    fn the_rules_apply_in_their_order() {
        let systemd = || Start { parent: parent(1, "systemd"), exec_pid: Some(OWN), is_in_unit: true, ..start() };
        let init = |name| Start { parent: parent(1, name), ..start() };
        let under = |name| Start { parent: parent(PARENT, name), ..start() };
        let pid_one = || Start { pid: 1, parent: parent(0, ""), ..start() };
        let cases = [
            // The option.
            (Some(true), pid_one(), None),
            (Some(true), under("tini"), None),
            (Some(true), systemd(), None),
            (Some(false), start(), Some("handoff_by_spawn(false)")),
            (Some(false), Start { is_successor: true, ..start() }, Some("handoff_by_spawn(false)")),
            // PID 1.
            (None, pid_one(), Some("this process is PID 1")),
            (None, Start { exec_pid: Some(1), speaks: true, ..pid_one() }, Some("this process is PID 1")),
            // Started by spawn.
            (None, Start { is_successor: true, ..init("sleep") }, None),
            (None, Start { is_successor: true, exec_pid: Some(9), ..init("systemd") }, None),
            // systemd has started this process.
            (None, Start { speaks: true, ..systemd() }, None),
            (None, systemd(), Some("set Type=notify in the unit")),
            (None, Start { parent: parent(PARENT, "systemd"), ..systemd() }, Some("Type=notify")),
            (None, Start { parent: parent(PARENT, "systemd"), speaks: true, ..systemd() }, None),
            (None, Start { parent: parent(1, ""), ..systemd() }, Some("Type=notify")),
            (None, Start { exec_pid: None, ..systemd() }, Some("Type=notify")),
            (None, Start { exec_pid: None, speaks: true, ..systemd() }, None),
            // It has started the parent.
            (None, Start { exec_pid: Some(PARENT), speaks: true, ..start() }, Some("the wrapper must exec")),
            (None, Start { exec_pid: Some(PARENT), is_in_unit: true, ..start() }, Some("PID 7 (bash)")),
            // Init.
            (None, init("tini"), Some("the parent is PID 1 (tini)")),
            (None, init("sh"), Some("the parent is PID 1 (sh)")),
            (None, init(""), Some("the parent is PID 1, ")),
            (None, Start { parent: parent(0, ""), ..start() }, Some("outside of this pid namespace")),
            (None, Start { speaks: true, ..init("conmon") }, Some("the parent is PID 1 (conmon)")),
            (None, init("systemd"), None),
            (None, Start { is_systemd_booted: true, ..init("") }, None),
            // An orphan in a session of systemd, whose terminal has left its variables.
            (None, Start { exec_pid: Some(9), is_in_unit: true, ..init("systemd") }, None),
            // Supervisors.
            (None, under("supervisord"), Some("the parent is PID 7 (supervisord), a supervisor")),
            (None, Start { speaks: true, exec_pid: Some(9), ..under("runsv") }, Some("a supervisor")),
            (None, under("PM2 v5.4.2: God"), Some("a supervisor")),
            (None, Start { is_supervised: true, ..under("sh") }, Some("the parent, PID 7 (sh), or one above it")),
            // The end of the session of a terminal.
            (None, Start { leads_session: true, ..under("script") }, Some("leads the session of its terminal")),
            (None, Start { leads_session: true, is_successor: true, ..start() }, None),
            // Any other parent.
            (None, start(), None),
            (None, Start { exec_pid: Some(9), is_in_unit: true, ..start() }, None),
            (None, under("cargo"), None),
            (None, under("sshd"), None),
            (None, under("tmux: server"), None),
            (None, under("setpriv"), None),
            (None, under("systemd"), None),
            (None, under(""), None),
        ];
        for (option, start, says) in cases {
            match (decide(option, &start), says) {
                (Ok(()), None) => {}
                (Err(reason), Some(says)) if reason.contains(says) => {}
                (decision, says) => panic!("{option:?}, {start:?}: {decision:?}, not {says:?}"),
            }
        }
    }

    #[test]
    fn a_supervisor_is_known_by_a_name_that_the_kernel_can_show() {
        for name in SUPERVISORS {
            assert!(name.len() <= 15, "{name}");
            let start = Start { parent: parent(PARENT, name), ..start() };
            assert!(decide(None, &start).unwrap_err().contains(name));
        }
    }
}
