//! What a process serves with, as the coordinator of its handoffs needs it.
//!
//! [`Server`](crate::Server) implements [`Service`] with connections that move, and the builder for other servers without.

use std::{
    future::{Future, pending},
    time::Duration,
};

use crate::{
    activation::ActivatedListeners,
    drain::Drain,
    error::Error,
    wire::{
        moved::ReplacedListener,
        receive::NewProcess,
        send::{OldProcess, SenderHandle},
    },
};

use super::state_part::StateParts;

/// A step of a handoff that the service manager is notified of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// This process serves, and is the main process of the service.
    Serving,
    /// A new process is started, which may take that long.
    HandingOver(Duration),
    /// The process of this id is the main process of the service from now on. Resolves when the service manager knows it.
    MainPid(u32),
    /// The handoff has failed for that reason, and this process serves on.
    RolledBack(&'a str),
    /// This process was asked to stop before the commit. It is the main process of the service again, if the new one was to be.
    Stopped,
}

/// What a process serves with: how it stops accepting, where its connections go, and how it drains.
///
/// The coordinator calls it in this order:
///
/// | when | calls |
/// | --- | --- |
/// | this process starts to serve | `drain`; `new_server` if there was an old process; `announce` with [`Serving`](Event::Serving) |
/// | it serves | `exhausted` |
/// | a handoff, up to the commit | `announce` with [`HandingOver`](Event::HandingOver) if this process spawns, `prepare`, `pause`, `announce` with [`MainPid`](Event::MainPid) if it has spawned, but not for a plain successor |
/// | the handoff fails before the commit | `announce` with [`RolledBack`](Event::RolledBack) if this process spawns |
/// | a stop before the commit | `announce` with [`Stopped`](Event::Stopped), then `shut_down` |
/// | after the commit | `old_server`, `leave_replaced`, `start_drain`, `drained`, then `end` |
/// | after the commit, beside a plain successor | `announce` with [`Serving`](Event::Serving), `start_drain`, `drained` beside `announce` with [`MainPid`](Event::MainPid), then `end` |
/// | the new process takes no more | `finish_locally` while `drained` goes on |
/// | the new process has died | `resume`, then again as it serves; only if [`RESUMES`](Self::RESUMES) |
/// | the end without a new process | `shut_down` |
///
/// Of a handoff that is not committed to, a request to stop drops the futures of `prepare`, `pause` and `announce` with
/// [`MainPid`](Event::MainPid). A request for a handoff drops that of `exhausted`. `activated` may be called at any time.
pub(crate) trait Service {
    /// What it knows of its drain.
    type Report;

    /// This process, as the one that connections move away from.
    type OldServer: OldProcess;

    /// This process, as the one that connections and the final state come to.
    type NewServer: NewProcess + Send + 'static;

    /// Whether it serves again if the new process dies while this one drains. Otherwise its drain goes on.
    const RESUMES: bool = false;

    fn activated(&self) -> &ActivatedListeners;

    /// The drain that ends it; another one after [`resume`](Self::resume).
    fn drain(&self) -> &Drain;

    fn old_server(&self) -> Self::OldServer;

    fn new_server(&self, final_states: &StateParts) -> Self::NewServer;

    /// Notifies the service manager, if there is one.
    async fn announce(&self, event: Event<'_>);

    /// Resolves when no more requests can come, and the service is to end.
    async fn exhausted(&self) {
        pending::<()>().await;
    }

    /// Resolves when nothing of the start of this process is left to do.
    async fn prepare(&mut self) {}

    /// Stops accepting within `limit`. Call the answer to leave it so; dropped uncalled, this process accepts again.
    async fn pause(&self, _limit: Duration) -> Result<impl FnOnce(), Error> {
        Ok(|| ())
    }

    /// Starts the drain that a new process makes possible. `connections` takes those that can move; a plain successor takes none.
    fn start_drain(&self, connections: Option<&SenderHandle>);

    /// Resolves when all connections have moved or ended: not before `predecessor_gone` resolves, and early when `abort` does. The new process
    /// does not go on with the listeners `replaced`. `connections` is dropped when no more of them come.
    async fn drained(
        &self,
        connections: Option<SenderHandle>,
        replaced: &[ReplacedListener],
        predecessor_gone: impl Future<Output = ()>,
        abort: impl Future<Output = &'static str>,
    ) -> Self::Report;

    /// The new process does not go on with these listeners. It comes before the drain starts: a listener that stops then empties its
    /// queue if no other process has it.
    fn leave_replaced(&self, _replaced: &[ReplacedListener]) {}

    /// The new process takes no more connections: those that are left end here.
    fn finish_locally(&self) {}

    /// Serves again, as the new process has died, with a drain of its own and the connections that came back.
    fn resume(&mut self) {}

    /// Ends after [`drained`](Self::drained), early when `abort` resolves.
    async fn end(self, report: Self::Report, abort: impl Future<Output = &'static str>) -> Self::Report;

    /// Ends without a new process, early when `abort` resolves. `is_restart` says that the service manager has asked for it, so that it may
    /// start the service again. `leave` tells the predecessor, if there is one, that this process stops.
    async fn shut_down(
        self,
        is_restart: bool,
        leave: impl Future<Output = ()>,
        abort: impl Future<Output = &'static str>,
    ) -> Self::Report;
}
