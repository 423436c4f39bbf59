//! Brings a new process to where it is ready. Until the commit nothing has changed for a client, and the old process can go back.

use std::os::fd::OwnedFd;

use tokio::time::timeout;

use super::{
    generation::GenerationInfo,
    successor::{Successor, Transfer},
};
use crate::{
    activation::{ActivatedListeners, CONTROL_NAME, ExportedSocket},
    error::Error,
    handoff::{
        failure::failed,
        options::Options,
        requests::Trigger,
        spawn::{next_process::NextProcess, started::StartedProcess},
    },
    wire::{
        channel::Channel,
        offer::{Committed, Offer, ReadyPeer, offer as offer_on},
        protocol::{ListenerRecord, PathRecord, SectionKind},
    },
};

/// A new process that is ready to accept. Dropped, it is sent away, and killed if this process has started it.
#[derive(Debug)]
#[must_use = "it waits for the commit"]
pub(crate) struct PreparedSuccessor {
    peer: ReadyPeer,
    started: Option<StartedProcess>,
    generation: GenerationInfo,
    /// How many older generations it knows of.
    offered: u32,
}

impl PreparedSuccessor {
    /// Its process id; 0 if it was not started here and cannot be seen from this pid namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.started.as_ref().map_or(self.peer.pid, StartedProcess::pid)
    }

    /// Whether this process has started it.
    pub(crate) fn is_started(&self) -> bool {
        self.started.is_some()
    }

    /// Lets it accept. From then on it lives by itself, and its process is only watched. After an error it is gone, and nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, it has not committed, and the new process is sent away.
    pub(crate) async fn commit(self) -> Result<Successor, Error> {
        let pid = self.pid();
        let Self { mut peer, started, generation, offered } = self;
        let replaced = std::mem::take(&mut peer.replaced);
        let process = if started.is_none() { peer.process() } else { None };
        match (peer.commit().await, started) {
            (Ok(Committed { sender, handle }), started) => {
                let committed = Committed { sender: sender.reporting_older(generation.older, offered), handle };
                let process = started.and_then(StartedProcess::leave).or(process);
                Ok(Successor { pid, replaced, transfer: Some(Transfer { committed, process }) })
            }
            (Err(refusal), Some(started)) => Err(failed(started.explain(&refusal).await)),
            (Err(refusal), None) => Err(failed(refusal.to_string())),
        }
    }
}

/// Offers all there is to the new process that `trigger` brings, and waits until it is ready.
///
/// # Cancel safety
///
/// Dropped, the new process is sent away.
pub(crate) async fn prepare_successor(
    options: &Options,
    activated: &ActivatedListeners,
    generation: GenerationInfo,
    trigger: Trigger,
) -> Result<PreparedSuccessor, Error> {
    let tried = timeout(options.timeout, prepare(options, activated, generation, trigger)).await;
    tried.unwrap_or_else(|_| Err(failed(format!("it was not ready within {:?} (handoff_timeout)", options.timeout))))
}

async fn prepare(
    options: &Options,
    activated: &ActivatedListeners,
    generation: GenerationInfo,
    trigger: Trigger,
) -> Result<PreparedSuccessor, Error> {
    options.run_before_start().await?;
    let sections = options.states.export(SectionKind::State).await.map_err(failed)?;
    let sockets =
        activated.for_successor().map_err(|error| failed(format!("cannot duplicate the sockets: {error}")))?;
    let offered = *generation.older.borrow();
    let attach = matches!(trigger, Trigger::Rendezvous(_));
    let offer = |sockets| Offer {
        generation: generation.generation,
        draining: offered,
        listeners: records(sockets),
        attach,
        sections,
    };
    let (peer, started) = match trigger {
        Trigger::Rendezvous(applicant) => (applicant.offer(offer(sockets)).await, None),
        Trigger::Spawn => {
            let (channel, control) = Channel::pair().map_err(|error| failed(format!("no control socket: {error}")))?;
            let started = start(options, &sockets, control).await?;
            (offer_on(channel, offer(sockets)).await, Some(started))
        }
    };
    match (peer, started) {
        (Ok(peer), started) => Ok(PreparedSuccessor { peer, started, generation, offered }),
        (Err(refusal), Some(started)) => Err(failed(with_withheld(activated, started.explain(&refusal).await))),
        (Err(refusal), None) => Err(failed(with_withheld(activated, refusal.to_string()))),
    }
}

/// A successor's failure, and which sockets it did not get: it may have tried to bind them.
fn with_withheld(activated: &ActivatedListeners, mut reason: String) -> String {
    let withheld: Vec<_> =
        activated.withheld().iter().map(|socket| format!("{:?} ({})", socket.name(), socket.place())).collect();
    if !withheld.is_empty() {
        reason += &format!(
            "; it does not get {}, which the service has taken with `files`, `udp` or `unix_datagram`: \
             `ActivatedListeners::pass_to_successor` passes it on",
            withheld.join(", ")
        );
    }
    reason
}

async fn start(options: &Options, sockets: &[ExportedSocket], control: OwnedFd) -> Result<StartedProcess, Error> {
    let mut next = NextProcess::of(options).may_spawn().successor();
    for socket in sockets {
        let fd = socket.fd.try_clone().map_err(|error| failed(format!("cannot duplicate the sockets: {error}")))?;
        next = match socket.provenance.bound {
            true => next.bound_socket(socket.variable_name(), fd),
            false => next.socket(socket.variable_name(), fd),
        };
    }
    next.socket(CONTROL_NAME, control).start().await
}

fn records(sockets: Vec<ExportedSocket>) -> Vec<(ListenerRecord, OwnedFd)> {
    let record = |ExportedSocket { name, fd, provenance }: ExportedSocket| {
        let created = provenance.created.map(|(path, device, inode)| PathRecord { path, device, inode });
        (ListenerRecord { name: name.to_string(), created, bound: provenance.bound }, fd)
    };
    sockets.into_iter().map(record).collect()
}
