//! Where the service binds Unix sockets itself: fallbacks that are not passed, and the path of the handoff.
//!
//! `systemd.exec(5)` can take the right to write there away, or give the service a directory in which no client finds
//! the path.

use std::path::Path;

use super::super::{finding::Finding, service::Service};

/// The settings of systemd.exec(5) that make a directory for the service, and where.
const MADE: [(&str, &str); 4] = [
    ("RuntimeDirectory", "/run"),
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
];

/// The directory of the path has to be there: /run is empty at each boot.
pub(super) fn runtime_directory(service: &Service<'_>) -> Option<Finding> {
    let own = service.unit.words("Service", "RuntimeDirectory");
    let missing = directories(service).into_iter().find(|directory| !is_made(directory, &own))?;
    let problem = format!(
        "the service binds a Unix socket in /run/{missing}, and RuntimeDirectory= does not make that directory"
    );
    Some(
        Finding::warning(service.unit, "Service", "RuntimeDirectory", problem)
            .fix(format!("RuntimeDirectory={missing}")),
    )
}

/// With `PrivateTmp=`, /tmp of the service is not that of its clients.
pub(super) fn private_tmp(service: &Service<'_>) -> Option<Finding> {
    let is_dynamic = service.unit.is_yes("Service", "DynamicUser");
    let own_tmp = service.unit.text("Service", "PrivateTmp").is_some_and(|value| value == "disconnected")
        || service.unit.is_yes("Service", "PrivateTmp");
    let path = own_paths(service).into_iter().find(|path| is_temporary(path))?;
    if !own_tmp && !is_dynamic {
        return None;
    }
    let why = if is_dynamic { "PrivateTmp=yes, which DynamicUser=yes implies" } else { "PrivateTmp=" };
    let problem =
        format!("{why}: the service binds {} in a directory of its own, where no client finds it", path.display());
    let finding = Finding::error(service.unit, "Service", "PrivateTmp", problem);
    // With DynamicUser= it cannot be switched off.
    Some(if is_dynamic { in_another_place(service, finding, path) } else { finding.fix("PrivateTmp=no") })
}

/// Where the service may not write: everywhere but in its own directories with `ProtectSystem=strict`, which `DynamicUser=` implies,
/// and in /run itself as any user but root.
pub(super) fn read_only(service: &Service<'_>) -> Option<Finding> {
    let is_dynamic = service.unit.is_yes("Service", "DynamicUser");
    let is_strict = is_dynamic || service.unit.text("Service", "ProtectSystem") == Some("strict");
    let user = service.unit.text("Service", "User").filter(|user| !["root", "0"].contains(user));
    let why = match (is_dynamic, is_strict, user) {
        (true, ..) => "DynamicUser=yes".to_owned(),
        (_, true, _) => "ProtectSystem=strict".to_owned(),
        (.., Some(user)) => format!("User={user}"),
        _ => return None,
    };
    let is_refused = |path: &&Path| is_in_run(path) || is_strict && !is_below_run(path);
    let path = own_paths(service).into_iter().filter(is_refused).find(|path| !is_own(service, path))?;
    let problem = format!(
        "with {why} the service cannot bind {}, as it may not write there; choose a path below /run/NAME, which \
         RuntimeDirectory=NAME makes",
        path.display()
    );
    Some(in_another_place(service, Finding::error(service.unit, "Service", "RuntimeDirectory", problem), path))
}

/// Whether a Unix socket is bound in a directory that comes and goes with the service.
pub(super) fn binds_in_own_directory(service: &Service<'_>) -> bool {
    let own = service.unit.words("Service", "RuntimeDirectory");
    directories(service).iter().any(|directory| is_made(directory, &own))
}

/// A socket unit opens the path of a fallback; the path at which the service is asked for a handoff is its own to choose.
fn in_another_place(service: &Service<'_>, finding: Finding, path: &Path) -> Finding {
    let stem = service.unit.prefix();
    match service.wanted.fallback_at(path) {
        Some(name) => finding
            .fix_in(format!("{stem}-{name}.socket"), "Socket")
            .fix(format!("FileDescriptorName={name}"))
            .fix(format!("ListenStream={}", path.display()))
            .fix(format!("Service={}", service.unit.name)),
        None => finding.fix(format!("RuntimeDirectory={stem}")),
    }
}

/// The paths that the service binds itself, in the file system of the host.
fn own_paths<'a>(service: &Service<'a>) -> Vec<&'a Path> {
    // The paths of a container are in a file system of its own.
    if service.is_per_connection() || service.unit.is_container {
        Vec::new()
    } else {
        service.wanted.own_paths(&service.passed())
    }
}

/// Whether `PrivateTmp=` hides it.
fn is_temporary(path: &Path) -> bool {
    path.starts_with("/tmp") || path.starts_with("/var/tmp")
}

fn is_in_run(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent == Path::new("/run") || parent == Path::new("/var/run"))
}

fn is_below_run(path: &Path) -> bool {
    path.starts_with("/run") || path.starts_with("/var/run")
}

/// Whether it lies where the unit lets the service write.
fn is_own(service: &Service<'_>, path: &Path) -> bool {
    let made = |(key, root): (&str, &str)| {
        let own = service.unit.words("Service", key);
        own.iter().any(|own| path.starts_with(Path::new(root).join(own.split(':').next().unwrap_or_default())))
    };
    let opened = service.unit.words("Service", "ReadWritePaths");
    let is_opened = opened.iter().any(|opened| path.starts_with(opened.trim_start_matches(['-', '+'])));
    is_temporary(path) || path.starts_with("/dev/shm") || is_opened || MADE.into_iter().any(made)
}

/// The directories below /run that Unix sockets are bound in.
fn directories(service: &Service<'_>) -> Vec<String> {
    let below_run = |path: &Path| {
        let path = path.strip_prefix("/run").or_else(|_| path.strip_prefix("/var/run")).ok()?;
        path.parent()?.to_str().filter(|directory| !directory.is_empty()).map(str::to_owned)
    };
    own_paths(service).into_iter().filter_map(below_run).collect()
}

/// Whether `RuntimeDirectory=` makes it: itself, or something in it.
fn is_made(directory: &str, own: &[String]) -> bool {
    own.iter().any(|own| Path::new(own.split(':').next().unwrap_or_default()).starts_with(directory))
}
