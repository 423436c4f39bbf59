//! A new process up to the commit: what the old one offers, and what this one answers.

use std::{
    future::Future,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use super::provenance::provenance;
use crate::{
    activation::{ActivatedListeners, Predecessor},
    blocking::on_thread_or_here,
    error::Error,
    handoff::{failure::refused, handle::Handoff, state_part::StateParts},
    idle_connection::Accepts,
    log,
    wire::{
        channel::leave,
        join::{Candidate, Joined, join_blocking},
        moved::ReplacedListener,
        receive::{ConnectionReceiver, ReceiverHandle},
        section::Section,
    },
};

/// How long an old process may take to say what it has. It has started this process, so it waits for nothing else.
const OFFER_LIMIT: Duration = Duration::from_secs(30);

/// A process before the commit. The old process, if there is one, waits until it is ready.
#[derive(Debug)]
#[must_use = "the predecessor waits for an answer"]
pub(crate) struct PendingTakeover {
    /// `None` where there is no old process, or it has ended meanwhile.
    candidate: Option<Candidate>,
    /// Whether there was an old process.
    pub(crate) has_predecessor: bool,
    sections: Vec<Section>,
    /// The listeners that this process does not go on with.
    replaced: Vec<ReplacedListener>,
    /// Which connections it takes of each listener, beside those of HTTP/1 that are idle.
    accepts: Vec<(Arc<str>, Accepts)>,
}

/// What still comes from the old process.
pub(crate) type ReceiverPair = (ConnectionReceiver, ReceiverHandle);

/// What has become of a process that is ready.
#[derive(Debug)]
pub(crate) enum Takeover {
    /// It serves now, and takes over what still comes.
    Serves(Option<ReceiverPair>),
    /// It was stopped before.
    Stopped,
}

impl PendingTakeover {
    /// Asks the old process that waits for this one, if there is one, what it hands over, and notes the generation in `handle`.
    ///
    /// # Errors
    ///
    /// The old process cannot be understood, or refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the old process learns that this one stops.
    pub(crate) async fn join(activated: &ActivatedListeners, handle: &Handoff) -> Result<Self, Error> {
        let Some(Joined { hello, listeners, sections, is_orphaned, peer, control }) = joined(activated).await? else {
            let (sections, replaced, accepts) = (Vec::new(), Vec::new(), Vec::new());
            return Ok(Self { candidate: None, has_predecessor: false, sections, replaced, accepts });
        };
        let provenances: Vec<_> = listeners.iter().map(|(record, _)| provenance(record, peer.user)).collect();
        activated.set_provenances(&provenances);
        let candidate = (!is_orphaned).then(|| control.into_candidate()).transpose();
        let candidate = candidate.map_err(|error| refused(format!("its control socket cannot be used: {error}")))?;
        handle.set_generation(hello.generation.saturating_add(1));
        handle.older_sender().send_replace(hello.draining.saturating_add(1));
        let (replaced, accepts) = (activated.replaced(), Vec::new());
        Ok(Self { candidate, has_predecessor: true, sections, replaced, accepts })
    }

    /// Takes, of each listener that is named, such connections beside those of HTTP/1 that are idle.
    pub(crate) fn accepting(self, accepts: Vec<(Arc<str>, Accepts)>) -> Self {
        Self { accepts, ..self }
    }

    /// Gives the service the state of the old process.
    pub(crate) async fn import(&mut self, states: &StateParts) -> Result<(), Error> {
        for section in self.sections.drain(..) {
            states.import(section).await.map_err(refused)?;
        }
        Ok(())
    }

    /// Tells the old process that this one will not take over.
    pub(crate) fn fail(self, why: &Error) {
        if let Some(candidate) = self.candidate {
            candidate.fail(&format!("{why:?}"));
        }
    }

    /// The value of `outcome`. Where that is an error, the old process learns of it.
    pub(crate) fn check<T>(self, outcome: Result<T, Error>) -> Result<(T, Self), Error> {
        match outcome {
            Ok(value) => Ok((value, self)),
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    /// Tells the old process that this one stops before it takes over.
    pub(crate) fn leave(self) {
        if let Some(candidate) = self.candidate {
            candidate.leave();
        }
    }

    /// Tells the old process that this one is ready, and waits until it may accept, unless `stopped` resolves before. If the old process has
    /// ended, this one goes on alone.
    ///
    /// # Errors
    ///
    /// The old process has called the handoff off.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it tells the old process that this one does not take over.
    pub(crate) async fn ready(self, stopped: impl Future<Output = ()>) -> Result<Takeover, Error> {
        let Some(candidate) = self.candidate else { return Ok(Takeover::Serves(None)) };
        let committed = tokio::select! {
            biased;
            committed = candidate.ready(self.replaced, &self.accepts) => committed,
            () = stopped => {
                candidate.leave();
                return Ok(Takeover::Stopped);
            }
        };
        match committed {
            Ok(()) => Ok(Takeover::Serves(Some(candidate.into_receiver()))),
            Err(refusal) if refusal.is_gone() => {
                log::warn!("the predecessor ended before it handed over, going on alone");
                Ok(Takeover::Serves(None))
            }
            Err(refusal) => Err(refused(refusal.to_string())),
        }
    }
}

/// What the old process offers; `None` where there is none, or it has ended.
async fn joined(activated: &ActivatedListeners) -> Result<Option<Joined>, Error> {
    let control = match activated.take_predecessor() {
        None => return Ok(None),
        Some(Predecessor::Rendezvous(joined)) => return Ok(Some(*joined)),
        Some(Predecessor::Spawn(control)) => control,
    };
    let deadline = Instant::now() + OFFER_LIMIT;
    // Without a descriptor for the duplicate the thread goes on until its deadline.
    let mut leave_on_drop = LeaveOnDrop(control.try_clone().ok());
    let joined = on_thread_or_here(move || join_blocking(control, deadline)).await;
    // A duplicate that stays open would hide the end of the control socket from the old process.
    leave_on_drop.0 = None;
    match joined.map_err(|error| refused(error.to_string()))? {
        Ok(joined) => Ok(Some(joined)),
        Err(refusal) if refusal.is_gone() => {
            log::warn!("the predecessor ended before it said what it hands over, going on with its sockets");
            Ok(None)
        }
        Err(refusal) => Err(refused(refusal.to_string())),
    }
}

/// Ends the conversation of a thread that blocks on a duplicate of this control socket: the old process learns that this one stops.
struct LeaveOnDrop(Option<OwnedFd>);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(leave);
    }
}

/// Tells the old process, if there is one that has not been answered, that this one stops.
pub(crate) fn call_off(activated: &ActivatedListeners) {
    match activated.take_predecessor() {
        None => {}
        Some(Predecessor::Spawn(control)) => leave(&control),
        Some(Predecessor::Rendezvous(joined)) => joined.control.leave(),
    }
}
