//! The hand-over to a program that knows nothing of this crate: listeners only.

use super::{Ending, Succession};
use crate::{
    drain::DrainReport,
    error::Error,
    handoff::{
        PlainSuccessor,
        attempt::failed,
        options::Options,
        plain::{PlainReady, attempt_plain},
        requests::Asker,
    },
    log,
    server::{notify::Announcer, serving::Serving},
};

/// Starts one and waits until it is ready. Nothing is accepted here from then on, as the sockets have to block for it: who
/// connects meanwhile waits in the kernel's queue.
pub(super) async fn try_plainly(
    options: &Options,
    ready: PlainSuccessor,
    serving: &Serving,
) -> Result<PlainReady, Error> {
    serving.accept(false).await;
    match serving.activated().set_blocking(true) {
        Ok(()) => attempt_plain(options, serving.activated(), ready).await,
        Err(error) => Err(failed(format!("the sockets cannot be prepared: {error}"))),
    }
}

/// Accepts again, as there is no successor.
pub(super) async fn go_on(serving: &Serving) {
    if let Err(error) = serving.activated().set_blocking(false) {
        log::error!(%error, "a socket that was prepared for the next process may block");
    }
    serving.accept(true).await;
}

impl Succession {
    /// Leaves the listeners to it, and drains.
    pub(in crate::server) async fn commit_plainly(
        &mut self,
        successor: PlainReady,
        asker: Asker,
        serving: Serving,
        announcer: &Announcer,
        ending: Ending<'_>,
    ) -> DrainReport {
        let (pid, Ending { signals, is_managed, limit }) = (successor.pid(), ending);
        // It cannot say so itself: the manager does not know it yet.
        announcer.ready();
        announcer.hand_to(pid).await;
        successor.leave();
        asker.tell(Ok(pid));
        log::info!(pid, "the plain successor accepts, draining what is here");
        serving.activated().set_passed_on(true);
        serving.current_drain().begin_succession(false);
        let cut_now = async {
            signals.first().await;
            signals.second_of_old(is_managed).await
        };
        let report = tokio::select! {
            report = serving.leave(limit, self.ties.handle.predecessor_gone(), cut_now) => report,
            never = self.ties.requests.refuse_all("this process has handed over") => match never {},
        };
        self.leave_predecessor().await;
        serving.end(report).await
    }
}
