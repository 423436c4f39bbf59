//! The next process: what it was handed, until it serves.

use std::{
    future::{Future, pending},
    time::{Duration, Instant},
};

use super::{
    interrupt::Interrupt,
    state_part::{Snapshot, StateParts},
};
use crate::{
    activation::{ActivatedListeners, Predecessor, Provenance},
    blocking::on_thread_or_here,
    error::{Error, Kind},
    log,
    sys::path::may_remove,
    wire::{
        channel::leave,
        join::{Candidate, Joined, join_blocking},
        moved::MovedListener,
        protocol::{Hello, ListenerRecord},
        receive::{ConnectionReceiver, ReceiverHandle},
        section::Section,
    },
};

/// How long a predecessor may take to say what it has: it has started this process, so it is waiting for nothing else.
const OFFER_LIMIT: Duration = Duration::from_secs(30);

/// A predecessor that waits for this process to be ready.
#[derive(Debug)]
#[must_use = "the predecessor waits for an answer"]
pub(crate) struct Arriving {
    /// `None` where the predecessor has ended meanwhile.
    candidate: Option<Candidate>,
    hello: Hello,
    sections: Vec<Section>,
    /// The listeners that this process does not go on with.
    moved: Vec<MovedListener>,
}

/// What still comes from the predecessor.
pub(crate) type Coming = (ConnectionReceiver, ReceiverHandle);

/// What has become of a process that is ready.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// It serves now, and takes over what still comes, or is alone.
    Committed(Option<Coming>),
    /// It was stopped before.
    Stopped,
}

/// Asks the predecessor that started this process, if there is one, what it hands over.
///
/// # Errors
///
/// It cannot be understood, or says no.
pub(crate) async fn join(activated: &ActivatedListeners) -> Result<Option<Arriving>, Error> {
    let joined = match activated.take_predecessor() {
        None => return Ok(None),
        Some(Predecessor::Rendezvous(joined)) => *joined,
        Some(Predecessor::Spawn(control)) => {
            let deadline = Instant::now() + OFFER_LIMIT;
            let (interrupt, _interrupting) = Interrupt::new();
            let join = move |control| join_blocking(control, deadline);
            let joined = on_thread_or_here(move || interrupt.during(control, join)).await;
            match joined.map_err(|error| refused(error.to_string()))? {
                Ok(joined) => joined,
                Err(refusal) if refusal.is_gone() => {
                    log::warn!("the predecessor ended before it said what it hands over, going on with its sockets");
                    return Ok(None);
                }
                Err(refusal) => return Err(refused(refusal.to_string())),
            }
        }
    };
    Arriving::new(joined, activated).map(Some)
}

/// Tells the predecessor, if there is one that has not been answered, that this process stops.
pub(crate) fn call_off(activated: &ActivatedListeners) {
    match activated.take_predecessor() {
        None => {}
        Some(Predecessor::Spawn(control)) => leave(&control),
        Some(Predecessor::Rendezvous(joined)) => joined.control.leave(),
    }
}

impl Arriving {
    fn new(joined: Joined, activated: &ActivatedListeners) -> Result<Self, Error> {
        let Joined { hello, listeners, sections, is_orphaned, peer, control } = joined;
        let provenances: Vec<_> = listeners.iter().map(|(record, _)| provenance(record, peer.user)).collect();
        activated.note_provenances(&provenances);
        let candidate = (!is_orphaned).then(|| control.into_candidate()).transpose();
        let candidate = candidate.map_err(|error| refused(format!("its control socket cannot be used: {error}")))?;
        Ok(Self { candidate, hello, sections, moved: activated.moved() })
    }

    /// What the predecessor said of itself.
    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Gives the service the state of the predecessor.
    pub(crate) async fn import(&mut self, states: &StateParts) -> Result<(), Error> {
        for Section { name, version, data, .. } in self.sections.drain(..) {
            states.import(&name, Snapshot::new(version, data)).await.map_err(refused)?;
        }
        Ok(())
    }

    /// Tells the predecessor that this process will not take over.
    pub(crate) fn fail(self, why: &Error) {
        if let Some(candidate) = self.candidate {
            candidate.fail(&format!("{why:?}"));
        }
    }

    /// Tells the predecessor that this process stops before it takes over.
    pub(crate) fn leave(self) {
        if let Some(candidate) = self.candidate {
            candidate.leave();
        }
    }

    /// Tells the predecessor that this process is ready, and waits until it may accept; `None` where the predecessor has ended, and
    /// this process goes on alone.
    ///
    /// # Errors
    ///
    /// The predecessor has called it off.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it tells the predecessor that this process does not take over.
    pub(crate) async fn ready(self) -> Result<Option<Coming>, Error> {
        match self.ready_unless(pending()).await? {
            Awaited::Committed(coming) => Ok(coming),
            Awaited::Stopped => unreachable!("a pending future does not resolve"),
        }
    }

    /// As [`ready`](Self::ready), unless `stopped` resolves first: the predecessor learns that this process stops.
    pub(crate) async fn ready_unless(self, stopped: impl Future<Output = ()>) -> Result<Awaited, Error> {
        let Some(candidate) = self.candidate else { return Ok(Awaited::Committed(None)) };
        let committed = tokio::select! {
            biased;
            committed = candidate.committed(self.moved) => committed,
            () = stopped => {
                candidate.leave();
                return Ok(Awaited::Stopped);
            }
        };
        match committed {
            Ok(()) => Ok(Awaited::Committed(Some(candidate.into_receiver()))),
            Err(refusal) if refusal.is_gone() => {
                log::warn!("the predecessor ended before it handed over, going on alone");
                Ok(Awaited::Committed(None))
            }
            Err(refusal) => Err(refused(refusal.to_string())),
        }
    }
}

/// What a predecessor of `user` says of a listener. A path that it names is removed by this process in the end: only one that it could
/// have removed itself. That the socket is bound there is for the set to see.
pub(super) fn provenance(record: &ListenerRecord, user: u32) -> Provenance {
    let created = record.created.as_ref().filter(|created| {
        let may_remove = may_remove(user, &created.path);
        if !may_remove {
            log::warn!(
                path = %created.path.display(), user, listener = record.name,
                "the predecessor names a path that it may not remove itself, so it stays"
            );
        }
        may_remove
    });
    let created = created.map(|created| (created.path.clone(), created.device, created.inode));
    Provenance { bound: record.bound, created }
}

pub(super) fn refused(reason: impl Into<String>) -> Error {
    Kind::Predecessor { reason: reason.into() }.into()
}
