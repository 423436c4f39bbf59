//! The new process's side after the commit: it receives the idle connections of its predecessor, and its final state.
//!
//! Invariants:
//!
//! 1. A connection is served only after its `Taken` has been sent, or after the predecessor's *process* has ended.
//! 2. Before that this process neither reads from it nor writes to it. Dropping it closes this process's descriptor and nothing else.
//! 3. The end of the control socket does not mean that the predecessor's process has ended: it may have closed its end and live on. So
//!    connections that could not be answered wait until the kernel says that the process has ended (`pidfd_open(2)`). They are dropped
//!    if that takes too long.

use std::{future::Future, ops::ControlFlow, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    batch::{self, ReceivedRecord, received},
    channel::{Channel, reason, unexpected},
    error::Refusal,
    inbox::Envelope,
    protocol::{
        CarriedConnections, Connections, Credit, FinalTaken, Leaving, Message, Older, Refused, SectionRecord, Taken,
    },
    section::Section,
};
use crate::{
    blocking::on_thread_or_here,
    idle_connection::IdleConnection,
    log,
    sys::{process::Process, table},
};

/// The most connections that the predecessor may send before there is more credit.
const WINDOW: u32 = 4096;

/// How many descriptors are left for this process's own connections and files.
const RESERVE: usize = 128;

/// How often to look for room when there is none.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// How long a predecessor that has closed the control socket may take to end, before unanswered connections are dropped.
const DEATH_LIMIT: Duration = Duration::from_secs(30);

/// What the receiver waits for.
const AWAITED: &str = "a `Done`";

/// The service of the new process, as the receiver of connections needs it.
pub(crate) trait NewProcess {
    /// Whether it takes all of `connections`. Nothing has been read from them yet.
    ///
    /// # Errors
    ///
    /// The reason why not.
    fn admit(&mut self, connections: &[IdleConnection]) -> Result<(), String>;

    /// Serves them. This process owns them alone now.
    fn serve(&mut self, connections: Vec<IdleConnection>);

    /// Takes a part of the predecessor's final state. The predecessor logs the error.
    fn take_final(&mut self, section: Section) -> impl Future<Output = Result<(), String>> + Send;
}

/// Receives the connections and the final state of the predecessor.
#[derive(Debug)]
#[must_use = "nothing arrives unless it runs"]
pub(crate) struct ConnectionReceiver {
    channel: Channel,
    /// Not bounded by itself: one message is sent when this process stops.
    commands: mpsc::UnboundedReceiver<ReceiverCommand>,
    /// How many more connections the predecessor may send.
    credit: u32,
    is_leaving: bool,
    /// Received after the predecessor had closed the control socket.
    unanswered: Vec<IdleConnection>,
    predecessor: Option<Process>,
    /// The names of the listeners so far, to have each once in memory.
    names: Vec<Arc<str>>,
    /// Shows how many older generations still drain.
    older: Option<watch::Sender<u32>>,
}

/// Commands the [`ConnectionReceiver`] while it runs.
#[derive(Clone, Debug)]
pub(crate) struct ReceiverHandle {
    commands: mpsc::UnboundedSender<ReceiverCommand>,
}

/// How the transfer from the predecessor has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The predecessor has sent everything.
    Done,
    /// The predecessor has died.
    Died,
    /// The predecessor has aborted the transfer, or has broken the protocol.
    Broken(Refusal),
}

#[derive(Debug)]
enum ReceiverCommand {
    Leaving(oneshot::Sender<()>),
}

impl ReceiverHandle {
    /// Sends the predecessor that this process stops. Returns when that is sent, or when there is no predecessor any more.
    pub(crate) async fn leave(&self) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(ReceiverCommand::Leaving(done)).is_ok() {
            let _ = is_done.await;
        }
    }
}

impl ConnectionReceiver {
    pub(super) fn new(channel: Channel, predecessor: Option<Process>) -> (Self, ReceiverHandle) {
        let (sender, commands) = mpsc::unbounded_channel();
        let (unanswered, names, older) = (Vec::new(), Vec::new(), None);
        let receiver = Self { channel, commands, credit: 0, is_leaving: false, unanswered, predecessor, names, older };
        (receiver, ReceiverHandle { commands: sender })
    }

    /// Another process in place of the one that the kernel names.
    #[cfg(test)]
    pub(super) fn set_predecessor(&mut self, predecessor: Option<Process>) {
        self.predecessor = predecessor;
    }

    /// Shows in `older` how many older generations still drain, whenever the predecessor says so.
    pub(crate) fn showing_older(mut self, older: watch::Sender<u32>) -> Self {
        self.older = Some(older);
        self
    }

    /// Receives until the predecessor has sent everything.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the control socket: the predecessor takes it for this process's end.
    pub(crate) async fn run(mut self, new: &mut impl NewProcess) -> Ended {
        loop {
            match self.step(new).await {
                Ok(ControlFlow::Continue(())) => yield_now().await,
                Ok(ControlFlow::Break(ended)) => return ended,
                Err(Refusal::Gone { .. }) => {
                    self.serve_unanswered(new).await;
                    return Ended::Died;
                }
                Err(refusal) => return Ended::Broken(refusal),
            }
        }
    }

    /// Receives or sends one message. It breaks at the end of the transfer, and an error ends that, too.
    async fn step(&mut self, new: &mut impl NewProcess) -> Result<ControlFlow<Ended>, Refusal> {
        self.grant().await?;
        let is_short = self.is_short();
        tokio::select! {
            arrived = self.channel.receive(AWAITED) => return self.arrived(arrived?, new).await,
            Some(command) = self.commands.recv() => self.obey(command).await?,
            () = sleep(NO_ROOM_PAUSE), if is_short => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether the predecessor has less credit than it could use.
    fn is_short(&self) -> bool {
        !self.is_leaving && self.credit <= WINDOW / 2
    }

    /// Lets the predecessor send as many connections as there is room for.
    async fn grant(&mut self) -> Result<(), Refusal> {
        if !self.is_short() {
            return Ok(());
        }
        // If the kernel does not say how much room there is, what does not fit is refused when it comes.
        let room = on_thread_or_here(table::room).await.ok().and_then(Result::ok).unwrap_or(usize::MAX);
        let room = u32::try_from(room.saturating_sub(RESERVE)).unwrap_or(u32::MAX);
        let connections = room.min(WINDOW).saturating_sub(self.credit);
        if connections > 0 {
            self.channel.send_if_open(Credit { connections }).await?;
            self.credit += connections;
        }
        Ok(())
    }

    async fn arrived(&mut self, envelope: Envelope, new: &mut impl NewProcess) -> Result<ControlFlow<Ended>, Refusal> {
        let Envelope { message, fds, lacks_fds } = envelope;
        match message {
            Message::Connections(Connections { records }) => {
                self.connections(received(records), fds, lacks_fds, new).await?;
            }
            Message::CarriedConnections(CarriedConnections { records }) => {
                self.connections(received(records), fds, lacks_fds, new).await?;
            }
            Message::SectionRecord(record) => self.section(record, fds, new).await?,
            Message::Older(Older { draining }) => {
                if let Some(older) = &self.older {
                    older.send_replace(draining.saturating_add(1));
                }
            }
            Message::Done(_) => return Ok(ControlFlow::Break(Ended::Done)),
            message => return Err(unexpected(message, AWAITED)),
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn connections(
        &mut self,
        records: Vec<ReceivedRecord>,
        fds: Vec<OwnedFd>,
        lacks_fds: bool,
        new: &mut impl NewProcess,
    ) -> Result<(), Refusal> {
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_sub(count);
        match self.admit(records, fds, lacks_fds, new).await {
            Ok(connections) => {
                // Invariant 1: they are this process's once the answer is sent.
                match self.channel.send_if_open(Taken { count }).await? {
                    true => new.serve(connections),
                    false => self.unanswered.extend(connections),
                }
            }
            Err(why) => drop(self.channel.send_if_open(Refused { count, reason: reason(&why) }).await?),
        }
        Ok(())
    }

    /// Serves the unanswered connections once the predecessor's process has ended, as no other process has them then.
    async fn serve_unanswered(&mut self, new: &mut impl NewProcess) {
        let unanswered = std::mem::take(&mut self.unanswered);
        if unanswered.is_empty() {
            return;
        }
        if self.outlives_predecessor().await {
            new.serve(unanswered);
        } else {
            log::warn!(
                connections = unanswered.len(),
                "the predecessor has closed the control socket and may serve these connections, so they are closed here"
            );
        }
    }

    /// Whether the predecessor's process ends in time, before this one is to stop.
    async fn outlives_predecessor(&mut self) -> bool {
        let Some(predecessor) = self.predecessor.take().filter(|_| !self.is_leaving) else { return false };
        let ended = async { timeout(DEATH_LIMIT, predecessor.ended()).await.is_ok_and(|ended| ended.is_ok()) };
        let mut ended = std::pin::pin!(ended);
        tokio::select! {
            ended = &mut ended => ended,
            Some(ReceiverCommand::Leaving(done)) = self.commands.recv() => {
                let _ = done.send(());
                false
            }
        }
    }

    async fn admit(
        &mut self,
        records: Vec<ReceivedRecord>,
        fds: Vec<OwnedFd>,
        lacks_fds: bool,
        new: &mut impl NewProcess,
    ) -> Result<Vec<IdleConnection>, String> {
        if self.is_leaving {
            return Err("it is stopping".to_owned());
        }
        if lacks_fds {
            return Err("its table of descriptors is full, raise LimitNOFILE=".to_owned());
        }
        let connections = self.unpack(records, fds).await?;
        new.admit(&connections)?;
        Ok(connections)
    }

    async fn unpack(&mut self, records: Vec<ReceivedRecord>, fds: Vec<OwnedFd>) -> Result<Vec<IdleConnection>, String> {
        let has_memfd = batch::has_memfd(&records);
        let mut names = std::mem::take(&mut self.names);
        let unpack = move || {
            let connections = batch::unpack(records, fds, |name| intern(&mut names, name));
            (connections, names)
        };
        let (connections, names) = match has_memfd {
            true => on_thread_or_here(unpack).await.map_err(|error| error.to_string())?,
            false => unpack(),
        };
        self.names = names;
        connections
    }

    async fn section(
        &mut self,
        record: SectionRecord,
        fds: Vec<OwnedFd>,
        new: &mut impl NewProcess,
    ) -> Result<(), Refusal> {
        let name = record.name.clone();
        let taken = match Section::unpack_async(record, fds).await {
            Ok(section) => new.take_final(section).await,
            Err(refusal) => Err(refusal.to_string()),
        };
        self.channel.send_if_open(FinalTaken { name, error: taken.err().map(|error| reason(&error)) }).await?;
        Ok(())
    }

    async fn obey(&mut self, command: ReceiverCommand) -> Result<(), Refusal> {
        match command {
            ReceiverCommand::Leaving(done) => {
                self.is_leaving = true;
                let sent = self.channel.send_if_open(Leaving {}).await?;
                let _ = done.send(());
                sent
            }
        };
        Ok(())
    }
}

/// The shared copy of `name`.
fn intern(names: &mut Vec<Arc<str>>, name: &str) -> Arc<str> {
    /// A service has fewer listeners. More names are a hostile peer's.
    const MOST: usize = 64;
    if let Some(known) = names.iter().find(|known| &***known == name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = name.into();
    if names.len() < MOST {
        names.push(Arc::clone(&name));
    }
    name
}
