//! The last step of a handoff: the old process exports what is final only when it has answered its last request.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    handoff::options::Options,
    log,
    wire::{final_state::FinalStatePhase, protocol::SectionKind},
};

/// How long the new process may take to hear what the old one sends last.
pub(super) const FINAL_LIMIT: Duration = Duration::from_secs(5);

/// Sends the final state to the new process, and that nothing more comes. A part that cannot be exported or sent is lost, which is logged.
///
/// # Cancel safety
///
/// Dropped, the new process takes this one for dead.
pub(crate) async fn send_final_state(options: &Options, phase: FinalStatePhase) {
    let limit = options.timeout;
    let exported = timeout(limit, options.final_states.export(SectionKind::Final)).await;
    let exported = exported.unwrap_or_else(|_| Err(format!("it was not exported within {limit:?} (handoff_timeout)")));
    let sections = exported.unwrap_or_else(|problem| {
        log::error!(problem, "the final state is lost");
        Vec::new()
    });
    match timeout(FINAL_LIMIT, phase.finish(sections)).await {
        Ok(Ok(answers)) => {
            for answer in answers {
                if let Some(error) = answer.error {
                    log::error!(name = answer.name, error, "the successor could not take the final state");
                }
            }
        }
        Ok(Err(refusal)) => log::warn!(%refusal, "the successor has not heard the end of the handoff"),
        Err(_) => log::warn!("the successor does not listen to the end of the handoff"),
    }
}
