//! The new process's side after the commit: the idle connections of its predecessor arrive.
//!
//! What holds at every moment:
//!
//! 1. A connection is served only after its `Taken` is in the control socket, or if the predecessor's *process* has ended.
//! 2. Before that nothing is read from it or written to it. Dropping it closes this process's descriptor and nothing else.
//! 3. The end of the control socket does not say that the predecessor's process has ended: it may have closed its side and live. So what
//!    could not be answered waits until the kernel says so (`pidfd_open(2)`), and is dropped if that takes too long.

use std::{future::Future, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    batch,
    channel::{Channel, Envelope, reason, unexpected},
    error::Refusal,
    protocol::{
        ConnectionRecord, Connections, Credit, FinalTaken, Leaving, Message, Older, Refused, SectionRecord, Taken,
    },
    section::Section,
};
use crate::{
    blocking::on_thread_or_here,
    idle_connection::IdleConnection,
    log,
    sys::{process::Process, table},
};

/// The most connections that the predecessor may send without further leave.
const WINDOW: u32 = 4096;

/// Descriptors that are kept for this process's own connections and files.
const RESERVE: usize = 128;

/// How often to look for room where there is none.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);

/// How long a predecessor that has closed the control socket may take to end, before what could not be answered is dropped.
const DEATH_LIMIT: Duration = Duration::from_secs(30);

/// What the receiver side waits for.
const AWAITED: &str = "a `Done`";

/// The process that connections move to.
pub(crate) trait NewProcess {
    /// Whether it takes all of `connections`: nothing is read from any yet. An error is the reason why not.
    fn admit(&mut self, connections: &[IdleConnection]) -> Result<(), String>;

    /// Serves them: they are this process's alone now.
    fn serve(&mut self, connections: Vec<IdleConnection>);

    /// Takes a part of the predecessor's final state. An error is told to the predecessor.
    fn take_final(&mut self, section: Section) -> impl Future<Output = Result<(), String>> + Send;
}

/// What the predecessor has left to send.
#[derive(Debug)]
#[must_use = "nothing arrives unless it runs"]
pub(crate) struct ConnectionReceiver {
    channel: Channel,
    commands: mpsc::UnboundedReceiver<ReceiverCommand>,
    /// How many more connections the predecessor may send.
    credit: u32,
    is_leaving: bool,
    /// Received when the predecessor had closed already.
    unanswered: Vec<IdleConnection>,
    predecessor: Option<Process>,
    /// Names of listeners that came before.
    names: Vec<Arc<str>>,
    /// Shows how many older generations still drain.
    older: Option<watch::Sender<u32>>,
}

/// Speaks to the predecessor while [`ConnectionReceiver`] runs.
#[derive(Clone, Debug)]
pub(crate) struct ReceiverHandle {
    commands: mpsc::UnboundedSender<ReceiverCommand>,
}

/// Why nothing more comes from the predecessor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It had nothing more.
    Done,
    /// It has ended without a word.
    Died,
    /// It would not go on, or did not keep to the protocol.
    Broken(Refusal),
}

#[derive(Debug)]
enum ReceiverCommand {
    Leaving(oneshot::Sender<()>),
}

impl ReceiverHandle {
    /// Tells the predecessor that this process stops; returns when that is said, or there is no predecessor.
    pub(crate) async fn leave(&self) {
        let (said, is_said) = oneshot::channel();
        if self.commands.send(ReceiverCommand::Leaving(said)).is_ok() {
            let _ = is_said.await;
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

    /// Takes what comes until the predecessor is done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the control socket: the predecessor takes it for this process's end.
    pub(crate) async fn run(mut self, successor: &mut impl NewProcess) -> Ended {
        loop {
            if let Err(refusal) = self.step(successor).await {
                match refusal {
                    None => return Ended::Done,
                    Some(Refusal::Gone { .. }) => {
                        self.inherit(successor).await;
                        return Ended::Died;
                    }
                    Some(refusal) => return Ended::Broken(refusal),
                }
            }
            yield_now().await;
        }
    }

    /// One message in or out; an error is the end.
    async fn step(&mut self, successor: &mut impl NewProcess) -> Result<(), Option<Refusal>> {
        self.grant().await?;
        let is_short = self.is_short();
        tokio::select! {
            arrived = self.channel.receive(AWAITED) => self.arrived(arrived?, successor).await,
            Some(command) = self.commands.recv() => Ok(self.say(command).await?),
            () = sleep(NO_ROOM_PAUSE), if is_short => Ok(()),
        }
    }

    /// Less is granted than would be if there were room.
    fn is_short(&self) -> bool {
        !self.is_leaving && self.credit <= WINDOW / 2
    }

    /// Lets the predecessor send as many as there is room for.
    async fn grant(&mut self) -> Result<(), Refusal> {
        if !self.is_short() {
            return Ok(());
        }
        // Where the kernel does not tell, what does not fit is refused when it comes.
        let room = on_thread_or_here(table::room).await.ok().and_then(Result::ok).unwrap_or(usize::MAX);
        let room = u32::try_from(room.saturating_sub(RESERVE)).unwrap_or(u32::MAX);
        let connections = room.min(WINDOW).saturating_sub(self.credit);
        if connections > 0 {
            self.channel.send_if_open(Credit { connections }).await?;
            self.credit += connections;
        }
        Ok(())
    }

    async fn arrived(&mut self, envelope: Envelope, successor: &mut impl NewProcess) -> Result<(), Option<Refusal>> {
        let Envelope { message, fds, lacks_fds } = envelope;
        match message {
            Message::Connections(Connections { records }) => {
                Ok(self.connections(records, fds, lacks_fds, successor).await?)
            }
            Message::SectionRecord(record) => Ok(self.section(record, fds, successor).await?),
            Message::Older(Older { draining }) => {
                if let Some(older) = &self.older {
                    older.send_replace(draining.saturating_add(1));
                }
                Ok(())
            }
            Message::Done(_) => Err(None),
            message => Err(Some(unexpected(message, AWAITED))),
        }
    }

    async fn connections(
        &mut self,
        records: Vec<ConnectionRecord>,
        fds: Vec<OwnedFd>,
        lacks_fds: bool,
        successor: &mut impl NewProcess,
    ) -> Result<(), Refusal> {
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_sub(count);
        match self.admit(records, fds, lacks_fds, successor).await {
            Ok(connections) => {
                // Only once it is said are they ours (invariant 1).
                match self.channel.send_if_open(Taken { count }).await? {
                    true => successor.serve(connections),
                    false => self.unanswered.extend(connections),
                }
            }
            Err(why) => drop(self.channel.send_if_open(Refused { count, reason: reason(&why) }).await?),
        }
        Ok(())
    }

    /// Serves what could not be answered, once the predecessor's process has ended: no other process has it then.
    async fn inherit(&mut self, successor: &mut impl NewProcess) {
        let unanswered = std::mem::take(&mut self.unanswered);
        if unanswered.is_empty() {
            return;
        }
        if self.outlives_predecessor().await {
            successor.serve(unanswered);
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
            Some(ReceiverCommand::Leaving(said)) = self.commands.recv() => {
                let _ = said.send(());
                false
            }
        }
    }

    async fn admit(
        &mut self,
        records: Vec<ConnectionRecord>,
        fds: Vec<OwnedFd>,
        lacks_fds: bool,
        successor: &mut impl NewProcess,
    ) -> Result<Vec<IdleConnection>, String> {
        if self.is_leaving {
            return Err("it is stopping".to_owned());
        }
        if lacks_fds {
            return Err("its table of descriptors is full, raise LimitNOFILE=".to_owned());
        }
        let connections = self.unpack(records, fds).await?;
        successor.admit(&connections)?;
        Ok(connections)
    }

    async fn unpack(
        &mut self,
        records: Vec<ConnectionRecord>,
        fds: Vec<OwnedFd>,
    ) -> Result<Vec<IdleConnection>, String> {
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
        successor: &mut impl NewProcess,
    ) -> Result<(), Refusal> {
        let name = record.name.clone();
        let taken = match Section::unpack_async(record, fds).await {
            Ok(section) => successor.take_final(section).await,
            Err(refusal) => Err(refusal.to_string()),
        };
        self.channel.send_if_open(FinalTaken { name, error: taken.err().map(|error| reason(&error)) }).await?;
        Ok(())
    }

    async fn say(&mut self, command: ReceiverCommand) -> Result<(), Refusal> {
        match command {
            ReceiverCommand::Leaving(said) => {
                self.is_leaving = true;
                let sent = self.channel.send_if_open(Leaving {}).await?;
                let _ = said.send(());
                sent
            }
        };
        Ok(())
    }
}

/// The one copy of `name`.
fn intern(names: &mut Vec<Arc<str>>, name: &str) -> Arc<str> {
    /// More than that are not the names of listeners.
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
