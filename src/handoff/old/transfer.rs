//! From the commit until all connections have moved or ended.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::timeout;

use super::{final_state::FINAL_LIMIT, successor::Transfer};
use crate::{
    handoff::{service::Service, signals::DrainSignals},
    log,
    sys::process::Process,
    wire::{final_state::FinalStatePhase, moved::ReplacedListener, offer::Committed, send::TransferOutcome},
};

/// How long a process may take to end that has closed all its files: one that lives serves, and must not be served beside.
const DEATH_LIMIT: Duration = Duration::from_secs(1);

/// Moves what can move of `service` to the new process while the rest drains. Returns the report of the drain, and how the final state is
/// sent; `None` if the new process has died, and this one is to serve again.
pub(crate) async fn transfer<S: Service>(
    service: &S,
    transfer: Transfer,
    replaced: &[ReplacedListener],
    predecessor_gone: impl Future<Output = ()>,
    signals: &DrainSignals,
) -> Option<(S::Report, Option<FinalStatePhase>)> {
    let Transfer { committed: Committed { sender, handle }, process } = transfer;
    let mut old = service.old_server();
    service.leave_replaced(replaced);
    service.start_drain(Some(&handle));
    let mut drained = pin!(service.drained(Some(handle), replaced, predecessor_gone, signals.aborted()));
    let mut sending = pin!(sender.run(&mut old));
    tokio::select! {
        report = &mut drained => {
            let sent = signals.unless_aborted(timeout(FINAL_LIMIT, sending)).await.and_then(Result::ok);
            Some((report, if let Some(TransferOutcome::Moved(phase)) = sent { Some(phase) } else { None }))
        }
        outcome = &mut sending => {
            if S::RESUMES && matches!(outcome, TransferOutcome::Died) && is_dead(process.as_ref(), signals).await {
                return None;
            }
            log::warn!(?outcome, "the successor takes no more connections, what is left ends here");
            service.finish_locally();
            Some((drained.await, None))
        }
    }
}

/// Whether a new process that says nothing more has ended; where the kernel does not show its process, its silence says so. A stop of this
/// process wins.
async fn is_dead(process: Option<&Process>, signals: &DrainSignals) -> bool {
    let ended = async {
        match process {
            Some(process) => timeout(DEATH_LIMIT, process.ended()).await.is_ok(),
            None => true,
        }
    };
    tokio::select! {
        biased;
        () = signals.stopped() => false,
        is_dead = ended => is_dead,
    }
}
