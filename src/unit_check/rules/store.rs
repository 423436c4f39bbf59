//! What the fd store needs of the unit: room, a restart after a crash, and directories that outlive the restart
//! (`systemd.service(5)`).

use super::{
    super::{finding::Finding, service::Service, value},
    paths,
};

/// `Restart=` that starts a service again after a crash.
const AFTER_CRASH: &[&str] = &["always", "on-failure", "on-abnormal", "on-abort"];

/// systemd closes what is beyond `FileDescriptorStoreMax=`, without an answer. It is 0 by default.
pub(super) fn size(service: &Service<'_>) -> Option<Finding> {
    let found = service.unit.last("Service", &["FileDescriptorStoreMax"], value::size).unwrap_or(0);
    let wanted = stored(service);
    if found >= wanted {
        return None;
    }
    let problem = format!(
        "FileDescriptorStoreMax={found}, and the service keeps up to {wanted} descriptors there: systemd closes the rest"
    );
    Some(
        Finding::error(service.unit, "Service", "FileDescriptorStoreMax", problem)
            .fix(format!("FileDescriptorStoreMax={wanted}")),
    )
}

/// Without a restart after a crash, systemd closes the store when the service has failed.
pub(super) fn restart(service: &Service<'_>) -> Option<Finding> {
    let found = service.unit.text("Service", "Restart").unwrap_or("no");
    if stored(service) == 0 || AFTER_CRASH.contains(&found) {
        return None;
    }
    let problem = format!(
        "Restart={found}: after a crash the descriptors in the fd store are closed, as nothing takes them over"
    );
    Some(Finding::warning(service.unit, "Service", "Restart", problem).fix("Restart=on-failure"))
}

/// A listener that outlives a restart is of no use when its path does not.
pub(super) fn kept_directory(service: &Service<'_>) -> Option<Finding> {
    let kept = service.unit.text("Service", "RuntimeDirectoryPreserve").unwrap_or("no");
    let is_kept = kept == "restart" || value::boolean(kept) == Some(true);
    if stored(service) == 0 || is_kept || !paths::binds_in_own_directory(service) {
        return None;
    }
    let problem = "RuntimeDirectoryPreserve=no: a restart removes the directory with the paths of the Unix sockets that the \
                   service keeps in the fd store, and no client can connect to them";
    Some(
        Finding::error(service.unit, "Service", "RuntimeDirectoryPreserve", problem.to_owned())
            .fix("RuntimeDirectoryPreserve=restart"),
    )
}

/// How many descriptors are to be kept. A service that is started for each connection keeps none.
fn stored(service: &Service<'_>) -> u64 {
    if service.is_per_connection() { 0 } else { service.wanted.fd_store }
}
