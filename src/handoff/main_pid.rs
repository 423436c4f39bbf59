//! Names the main process of a systemd unit: `MAINPID=` of `sd_notify(3)`.

use std::time::Duration;

use crate::{
    log,
    notify::{Notifier, State},
};

/// How long the service manager may take to know the new main process.
const BARRIER_LIMIT: Duration = Duration::from_secs(5);

/// Makes the process `pid` the main one of the unit, with `status` in the same message. Returns when systemd has noted it: until then the end
/// of the old process would end the service.
///
/// # Cancel safety
///
/// Dropped, systemd may have noted it.
pub(crate) async fn set_main_pid(notifier: &Notifier, pid: u32, status: Option<State>) {
    if !notifier.is_active() {
        return;
    }
    notifier.notify([State::MainPid(pid)].into_iter().chain(status));
    if let Err(error) = notifier.barrier(BARRIER_LIMIT).await {
        log::warn!(?error, pid, "the service manager does not say that it knows the new main process");
    }
}

/// Makes this process the main one of the unit again, after another was to be.
pub(super) fn take_back_main_pid() {
    Notifier::from_env().notify([State::MainPid(std::process::id())]);
}
