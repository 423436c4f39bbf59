//! The sockets of a service: what starts it, and under which names they are passed (`systemd.socket(5)`).

use std::path::Path;

use super::super::{
    finding::Finding,
    service::{Service, accepts, is_started_by, passed_name, started},
    unit::{Setting, Unit},
    value,
};

/// With `Accept=yes` systemd accepts, and starts an instance of a template for each connection.
pub(super) fn accept(service: &Service<'_>, socket: &Unit) -> Option<Finding> {
    if !accepts(socket) {
        return None;
    }
    let problem = if service.wanted.handoff {
        "Accept=yes: each process has one connection and ends with it, so that there is nothing to hand over; \
         let one service that is no template accept for itself"
            .to_owned()
    } else if service.unit.is_template() {
        return None;
    } else {
        format!(
            "Accept=yes: each connection starts an instance of {}, which is not among these units",
            started(socket)[0]
        )
    };
    Some(Finding::error(socket, "Socket", "Accept", problem).fix("Accept=no"))
}

/// A socket starts the service of its own name, unless `Service=` names another. Where that service is not there,
/// systemd does not open the socket.
pub(super) fn started_service(service: &Service<'_>, socket: &Unit) -> Option<Finding> {
    if accepts(socket) || service.unit.is_template() || is_started_by(service.unit, socket) {
        return None;
    }
    let problem = format!(
        "Service= is missing or wrong: a connection starts {}, and where there is none, the socket is not opened at all",
        started(socket)[0]
    );
    Some(Finding::error(socket, "Socket", "Service", problem).fix(format!("Service={}", service.unit.name)))
}

/// With `Accept=yes` a burst of connections fails the socket unit, and closes the socket.
pub(super) fn trigger_limit(_: &Service<'_>, socket: &Unit) -> Option<Finding> {
    let interval = socket.last("Socket", &["TriggerLimitIntervalSec"], value::time_span);
    let burst = socket.last("Socket", &["TriggerLimitBurst"], value::size);
    let is_off = interval.is_some_and(|interval| interval.is_zero()) || burst == Some(0);
    if !accepts(socket) || is_off {
        return None;
    }
    let problem = "TriggerLimitIntervalSec= is not 0: more connections than TriggerLimitBurst= within it (by default 200 in \
                   2 s) fail the unit and close its socket";
    Some(
        Finding::warning(socket, "Socket", "TriggerLimitIntervalSec", problem.to_owned())
            .fix("TriggerLimitIntervalSec=0"),
    )
}

/// `DeferTrigger=` of systemd 258 and later.
pub(super) fn deferred(_: &Service<'_>, socket: &Unit) -> Option<Finding> {
    if !accepts(socket) || !is_deferred(socket) {
        return None;
    }
    let problem = "DeferTrigger= beside Accept=yes: systemd does not load the unit".to_owned();
    Some(Finding::error(socket, "Socket", "DeferTrigger", problem).fix("DeferTrigger=no"))
}

pub(super) fn deferred_limit(_: &Service<'_>, socket: &Unit) -> Option<Finding> {
    let limit = socket.last("Socket", &["DeferTriggerMaxSec"], value::time_limit)?;
    if accepts(socket) || !is_deferred(socket) || limit == value::INFINITY {
        return None;
    }
    let problem = "DeferTriggerMaxSec= has a limit: when the service cannot be started in that time, the socket unit fails and the \
                   socket is closed"
        .to_owned();
    Some(Finding::warning(socket, "Socket", "DeferTriggerMaxSec", problem).fix("DeferTriggerMaxSec=infinity"))
}

/// A boolean, or `patient`.
fn is_deferred(socket: &Unit) -> bool {
    socket.text("Socket", "DeferTrigger").is_some_and(|text| value::boolean(text) != Some(false))
}

/// A path that not every user may connect to needs an owner or a group that may.
pub(super) fn owner(_: &Service<'_>, socket: &Unit) -> Option<Finding> {
    let mode = socket.last("Socket", &["SocketMode"], |mode| u32::from_str_radix(mode, 8).ok())?;
    let has_owner = ["SocketUser", "SocketGroup"].iter().any(|key| socket.text("Socket", key).is_some());
    let has_path = socket.listens().iter().any(|listen| listen.value.starts_with(['/', '%']));
    if mode & 0o002 != 0 || has_owner || !has_path {
        return None;
    }
    let (who, fix) = match mode & 0o020 {
        0 => ("root alone", "SocketUser=root"),
        _ => ("root and its group alone", "SocketGroup=www-data"),
    };
    let problem = format!(
        "SocketMode={mode:04o} without SocketUser= or SocketGroup=: the socket belongs to root, so that {who} can connect; name the \
         user or the group of the clients"
    );
    Some(Finding::warning(socket, "Socket", "SocketMode", problem).fix(fix))
}

/// systemd removes `RuntimeDirectory=` with all that is in it whenever the service stops, and the socket unit does not notice.
pub(super) fn runtime_directory(service: &Service<'_>, socket: &Unit) -> Option<Finding> {
    const PATHS: [&str; 4] = ["ListenStream", "ListenDatagram", "ListenSequentialPacket", "ListenFIFO"];
    let removed: Vec<_> = service.units.iter().flat_map(removed_directories).collect();
    let listens = socket.listens();
    let found = |listen: &&Setting| {
        let directive = PATHS.into_iter().find(|key| *key == listen.key)?;
        let below_run = below_run(&socket.expand(&listen.value))?;
        let (service, directory) =
            removed.iter().find(|(_, directory)| Path::new(&below_run).starts_with(directory))?;
        Some((directive, below_run, service, directory))
    };
    let (directive, _, service, directory) = listens.iter().find_map(found)?;
    let problem = format!(
        "{directive}= lies in RuntimeDirectory={directory} of {service}, which systemd removes whenever that service stops or \
         restarts: the path is gone then, and no client can connect"
    );
    let moved = listens.iter().map(|listen| match found(listen) {
        Some((directive, below_run, ..)) => format!("{directive}=/run/{}", below_run.replace('/', "-")),
        None => format!("{}={}", listen.key, listen.value),
    });
    let finding = Finding::error(socket, "Socket", directive, problem).fix(format!("{directive}="));
    Some(moved.fold(finding, Finding::fix))
}

/// The directories below /run that go when `unit` stops.
fn removed_directories(unit: &Unit) -> Vec<(&str, String)> {
    if unit.is_yes("Service", "RuntimeDirectoryPreserve") {
        return Vec::new();
    }
    let directories = unit.words("Service", "RuntimeDirectory").into_iter();
    directories.map(|word| (unit.name.as_str(), word.split(':').next().unwrap_or_default().to_owned())).collect()
}

/// What follows `/run/` in a path.
fn below_run(path: &str) -> Option<String> {
    let path = Path::new(path);
    let path = path.strip_prefix("/run").or_else(|_| path.strip_prefix("/var/run")).ok()?;
    path.to_str().map(str::to_owned)
}

/// `FlushPending=yes` drops the clients that wait in the queue, whenever the service is started.
pub(super) fn flush(_: &Service<'_>, socket: &Unit) -> Option<Finding> {
    if accepts(socket) || !socket.is_yes("Socket", "FlushPending") {
        return None;
    }
    let problem = "FlushPending=yes: a client that connects while the service restarts is dropped and not served";
    Some(Finding::error(socket, "Socket", "FlushPending", problem.to_owned()).fix("FlushPending=no"))
}

/// Finds names that no route serves, and routes that no socket has.
///
/// Each socket with a wrong name gets one of the names that are missing, so that the fixes together are right.
pub(super) fn names(service: &Service<'_>) -> Vec<Finding> {
    let served = service.wanted.served();
    if served.is_empty() || service.sockets.iter().any(|socket| accepts(socket)) {
        return Vec::new();
    }
    let passed = service.passed();
    let lacking = served.iter().filter(|name| !passed.iter().any(|passed| passed == *name)).copied();
    let mut lacking: Vec<_> = lacking.collect();
    let mut findings = Vec::new();
    for socket in service.listening().filter(|socket| !service.wanted.allow_unserved && is_unserved(socket, &served)) {
        let right = if lacking.is_empty() { served[0] } else { lacking.remove(0) };
        findings.push(unserved(socket, &served, right));
    }
    lacking.retain(|name| !service.wanted.has_fallback(name));
    findings.extend(lacking.into_iter().map(|name| without_socket(service, name)));
    findings
}

/// Whether its clients would connect and hang.
fn is_unserved(socket: &Unit, served: &[&str]) -> bool {
    let listens = !socket.list("Socket", &["ListenStream", "ListenSequentialPacket"]).is_empty();
    listens && !served.contains(&passed_name(socket).as_str())
}

fn unserved(socket: &Unit, served: &[&str], right: &str) -> Finding {
    let name = passed_name(socket);
    let origin = if name == socket.name { ", which is what FileDescriptorName= is by default" } else { "" };
    let served = served.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let problem = format!(
        "no route serves a socket named {name:?}{origin}; the service serves {served}, and does not start with a socket \
         whose clients would hang"
    );
    Finding::error(socket, "Socket", "FileDescriptorName", problem).fix(format!("FileDescriptorName={right}"))
}

/// A socket unit for it is new, so that its address is a proposal.
fn without_socket(service: &Service<'_>, name: &str) -> Finding {
    let stem = service.unit.prefix();
    let problem = format!(
        "no socket is passed under the name {name:?}, and the service does not start without; let a socket unit open it"
    );
    Finding::error(service.unit, "Service", "Sockets", problem)
        .fix_in(format!("{stem}-{name}.socket"), "Socket")
        .fix(format!("FileDescriptorName={name}"))
        .fix(format!("ListenStream=/run/{stem}-{name}.sock"))
        .fix(format!("Service={}", service.unit.name))
}
