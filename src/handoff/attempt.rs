//! One try to bring a successor to where it is ready. Until it is committed to, nothing has changed for anybody.

use std::{future::pending, io, os::fd::OwnedFd, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{options::Options, spawn::NextProcess};
use crate::{
    activation::{ActivatedListeners, CONTROL_NAME, ExportedSocket},
    error::{Error, Kind},
    log,
    sys::process::Process,
    wire::{
        channel::Channel,
        error::Refusal,
        moved::MovedListener,
        offer::{Applicant, Committed, Offer, ReadyPeer, offer},
        protocol::{ListenerRecord, PathRecord, SectionKind},
        section::Section,
        send::{ConnectionSender, SenderHandle},
    },
};

/// How long a process that has closed the control socket may take until it is known how it ended.
const STATUS_LIMIT: Duration = Duration::from_millis(250);

/// How the two processes meet.
#[derive(Debug)]
pub(crate) enum Way {
    /// This process starts the next one.
    Spawn,
    /// The next one has come by itself.
    Applicant(Applicant),
}

/// Which generation a process is, and how many older ones still drain.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) generation: u64,
    pub(crate) older: watch::Receiver<u32>,
}

/// A successor that is ready. Dropped, it is sent away, and killed if this process has started it.
#[derive(Debug)]
#[must_use = "it waits for the commit"]
pub(crate) struct ReadySuccessor {
    prepared: ReadyPeer,
    started: Option<Started>,
    line: Line,
    /// How many older generations it knows of.
    offered: u32,
}

impl ReadySuccessor {
    /// Its process id; 0 if it was not started here and cannot be seen from this pid namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.started.as_ref().map_or(self.prepared.pid, Started::pid)
    }

    /// The listeners that it does not go on with, as it has another address.
    pub(crate) fn moved(&self) -> Vec<MovedListener> {
        self.prepared.moved.clone()
    }

    /// Whether this process has started it.
    pub(crate) fn is_started(&self) -> bool {
        self.started.is_some()
    }

    /// Lets it accept; from then on it lives by itself, and its process is only to be looked at. After an error it is gone, and nothing
    /// has changed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, it has not committed, and the successor is sent away.
    pub(crate) async fn commit(self) -> Result<(ConnectionSender, SenderHandle, Option<Process>), Error> {
        let Self { prepared, started, line, offered } = self;
        let visitor = if started.is_none() { prepared.process() } else { None };
        match (prepared.commit().await, started) {
            (Ok(Committed { sender, handle }), started) => {
                Ok((sender.reporting_older(line.older, offered), handle, started.and_then(Started::leave).or(visitor)))
            }
            (Err(refusal), Some(started)) => Err(failed(started.explain(&refusal).await)),
            (Err(refusal), None) => Err(failed(refusal.to_string())),
        }
    }
}

/// Offers all there is to a successor, and waits until it is ready.
///
/// # Cancel safety
///
/// Dropped, the successor is sent away.
pub(crate) async fn attempt(
    options: &Options,
    activated: &ActivatedListeners,
    line: Line,
    way: Way,
) -> Result<ReadySuccessor, Error> {
    let tried = timeout(options.timeout, prepare(options, activated, line, way)).await;
    tried.unwrap_or_else(|_| Err(failed(format!("it was not ready within {:?} (handoff_timeout)", options.timeout))))
}

async fn prepare(
    options: &Options,
    activated: &ActivatedListeners,
    line: Line,
    way: Way,
) -> Result<ReadySuccessor, Error> {
    before_start(options).await?;
    let sections = options.states.export().await.map_err(failed)?;
    let sections = sections.into_iter().map(|(name, snapshot)| Section {
        kind: SectionKind::State,
        name,
        version: snapshot.version(),
        data: snapshot.bytes().clone(),
    });
    let sockets =
        activated.for_successor().map_err(|error| failed(format!("cannot duplicate the sockets: {error}")))?;
    let attach = matches!(way, Way::Applicant(_));
    let draining = *line.older.borrow();
    let offered =
        |listeners| Offer { generation: line.generation, draining, listeners, attach, sections: sections.collect() };
    match way {
        Way::Applicant(joiner) => {
            let prepared = joiner.offer(offered(records(sockets))).await;
            let prepared = prepared.map_err(|refusal| failed(with_withheld(activated, refusal.to_string())))?;
            Ok(ReadySuccessor { prepared, started: None, line, offered: draining })
        }
        Way::Spawn => {
            let (channel, control) = Channel::pair().map_err(|error| failed(format!("no control socket: {error}")))?;
            let started = start(options, &sockets, control).await?;
            let prepared = offer(channel, offered(records(sockets))).await;
            match prepared {
                Ok(prepared) => Ok(ReadySuccessor { prepared, started: Some(started), line, offered: draining }),
                Err(refusal) => Err(failed(with_withheld(activated, started.explain(&refusal).await))),
            }
        }
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

/// Runs the hook before the start of the next process.
pub(crate) async fn before_start(options: &Options) -> Result<(), Error> {
    let run = options.run_before_start().await;
    run.map_err(|error| failed(format!("the hook before the start says no: {error}")))
}

async fn start(options: &Options, sockets: &[ExportedSocket], control: OwnedFd) -> Result<Started, Error> {
    let mut next = NextProcess::of(options).may_spawn().successor();
    for socket in sockets {
        let fd = socket.fd.try_clone().map_err(|error| failed(format!("cannot duplicate the sockets: {error}")))?;
        next = match socket.provenance.bound {
            true => next.bound_socket(socket.variable_name(), fd),
            false => next.socket(socket.variable_name(), fd),
        };
    }
    Ok(Started::new(next.socket(CONTROL_NAME, control).start().await?))
}

fn records(sockets: Vec<ExportedSocket>) -> Vec<(ListenerRecord, OwnedFd)> {
    let record = |ExportedSocket { name, fd, provenance }: ExportedSocket| {
        let created = provenance.created.map(|(path, device, inode)| PathRecord { path, device, inode });
        (ListenerRecord { name: name.to_string(), created, bound: provenance.bound }, fd)
    };
    sockets.into_iter().map(record).collect()
}

pub(crate) fn failed(reason: impl Into<String>) -> Error {
    Kind::Handover { reason: reason.into() }.into()
}

/// A process that was started; killed when dropped.
#[derive(Debug)]
pub(crate) struct Started {
    /// `None` once it lives on by itself.
    process: Option<Process>,
}

impl Started {
    pub(crate) fn new(process: Process) -> Self {
        Self { process: Some(process) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// Resolves when it has ended.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        match &self.process {
            Some(process) => process.ended().await,
            None => pending().await,
        }
    }

    /// It lives on by itself.
    pub(crate) fn leave(mut self) -> Option<Process> {
        self.process.take()
    }

    async fn explain(&self, refusal: &Refusal) -> String {
        if refusal.is_gone() {
            self.ended_early().await
        } else {
            format!("the next process (pid {}): {refusal}", self.pid())
        }
    }

    /// Says that it has ended, and how if the kernel tells.
    pub(crate) async fn ended_early(&self) -> String {
        let status = match &self.process {
            Some(process) => process.exit_status(STATUS_LIMIT).await,
            None => None,
        };
        let how = status.map_or(String::new(), |status| format!(" ({status})"));
        format!("the next process (pid {}) ended before it was ready{how}; what it wrote says why", self.pid())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let killed = self.process.as_ref().map(Process::kill);
        if let Some(Err(error)) = killed {
            log::warn!(%error, pid = self.pid(), "the next process could not be killed");
        }
    }
}
