//! Where the service binds Unix sockets itself.

use std::path::Path;

use super::super::{case::Case, finding::Finding};

pub(super) fn runtime_directory(case: &Case<'_>) -> Option<Finding> {
    let own = case.service.words("Service", "RuntimeDirectory");
    let missing = directories(case).into_iter().find(|directory| !is_made(directory, &own))?;
    let problem = format!(
        "the service binds a Unix socket in /run/{missing}, and RuntimeDirectory= does not make that directory"
    );
    Some(
        Finding::warning(case.service, "Service", "RuntimeDirectory", problem)
            .mend(format!("RuntimeDirectory={missing}")),
    )
}

pub(super) fn private_tmp(case: &Case<'_>) -> Option<Finding> {
    let own_tmp = case.service.text("Service", "PrivateTmp").is_some_and(|value| value == "disconnected")
        || case.service.is_yes("Service", "PrivateTmp");
    let path = own_paths(case).into_iter().find(|path| path.starts_with("/tmp") || path.starts_with("/var/tmp"))?;
    // With DynamicUser= it cannot be switched off.
    if !own_tmp || case.service.is_yes("Service", "DynamicUser") {
        return None;
    }
    let problem = format!(
        "PrivateTmp=: the service binds {} in a directory of its own, where no client finds it",
        path.display()
    );
    Some(Finding::error(case.service, "Service", "PrivateTmp", problem).mend("PrivateTmp=no"))
}

/// Whether a Unix socket is bound in a directory that comes and goes with the service.
pub(super) fn binds_in_own_directory(case: &Case<'_>) -> bool {
    let own = case.service.words("Service", "RuntimeDirectory");
    directories(case).iter().any(|directory| is_made(directory, &own))
}

fn own_paths<'a>(case: &Case<'a>) -> Vec<&'a Path> {
    if case.is_per_connection() { Vec::new() } else { case.wanted.own_paths(&case.passed()) }
}

/// The directories below /run that Unix sockets are bound in.
fn directories(case: &Case<'_>) -> Vec<String> {
    let below_run = |path: &Path| {
        let path = path.strip_prefix("/run").or_else(|_| path.strip_prefix("/var/run")).ok()?;
        path.parent()?.to_str().filter(|directory| !directory.is_empty()).map(str::to_owned)
    };
    own_paths(case).into_iter().filter_map(below_run).collect()
}

/// Whether `RuntimeDirectory=` makes it: itself, or something in it.
fn is_made(directory: &str, own: &[String]) -> bool {
    own.iter().any(|own| Path::new(own.split(':').next().unwrap_or_default()).starts_with(directory))
}
