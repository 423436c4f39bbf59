//! Which process is the main one of a systemd unit: `MAINPID=` of `sd_notify(3)`, for a service that is served without
//! [`Server`](crate::Server).

use std::time::Duration;

use crate::{
    log,
    notify::{Notifier, State},
};

/// How long the service manager may take to know the new main process.
const BARRIER_LIMIT: Duration = Duration::from_secs(5);

/// Tells systemd which process is the main one of the unit from now on, and returns when systemd knows: the end of the old main process
/// would end the service.
///
/// # Cancel safety
///
/// Dropped, systemd may know it.
pub(super) async fn set_main_pid(pid: u32) {
    let notifier = Notifier::from_env();
    if !notifier.is_active() {
        return;
    }
    notifier.notify([State::MainPid(pid)]);
    if let Err(error) = notifier.barrier(BARRIER_LIMIT).await {
        log::warn!(?error, pid, "the service manager does not say that it knows the new main process");
    }
}

/// This process is the main one again, if another was to be.
pub(super) fn take_back_main_pid() {
    Notifier::from_env().notify([State::MainPid(std::process::id())]);
}
