//! The handoff to a program that knows nothing of this crate: listeners only.

use super::{Ending, Succession, pause, unless_aborted};
use crate::{
    drain::DrainReport,
    error::Error,
    handoff::{
        PlainSuccessor,
        attempt::failed,
        options::Options,
        plain::attempt_plain,
        ties::{Ties, leave_predecessor},
    },
    log,
    server::{notify::Announcer, routes::Routes, signals::Heard},
};

/// Starts one, waits until it is ready, and leaves the listeners to it: its process id.
///
/// Nothing is accepted here from the start on, as the sockets have to block for it: who connects meanwhile waits in the kernel's queue.
///
/// # Cancel safety
///
/// Dropped, what was started is killed, and this process accepts again.
pub(super) async fn hand_over_plainly(
    options: &Options,
    ready: PlainSuccessor,
    serving: &Routes,
) -> Result<u32, Error> {
    log::debug!("stops accepting before the plain successor is started");
    let paused = pause(options, serving).await?;
    let blocking = serving.activated().make_blocking().map_err(failed)?;
    let successor = attempt_plain(options, serving.activated(), ready).await?;
    let pid = successor.pid();
    // It accepts already: nothing calls that off.
    successor.leave();
    blocking.leave();
    paused.hold();
    Ok(pid)
}

impl Succession {
    /// Drains, as the plain successor `pid` has the listeners.
    pub(in crate::server) async fn leave_plainly(
        &mut self,
        pid: u32,
        serving: Routes,
        announcer: &Announcer,
        ending: Ending<'_>,
    ) -> DrainReport {
        let Ending { signals, is_managed, limit } = ending;
        let Ties { requests, handle, predecessor, .. } = &mut self.ties;
        let heard = Heard::default();
        // It cannot say so itself: the manager does not know it yet.
        announcer.ready();
        serving.activated().set_passed_on(true);
        serving.current_drain().begin_succession(false);
        let leaving = async {
            // The manager has to know the new main process before this one ends.
            let left = serving.leave(limit, handle.predecessor_gone(), heard.aborted());
            let (report, ()) = tokio::join!(left, announcer.set_main_pid(pid));
            unless_aborted(&heard, leave_predecessor(handle, predecessor.as_ref())).await;
            serving.end(report, limit, heard.aborted()).await
        };
        tokio::select! {
            report = leaving => report,
            never = signals.watch_old(is_managed, &heard) => match never {},
            never = requests.refuse_all("this process has handed over") => match never {},
        }
    }
}
