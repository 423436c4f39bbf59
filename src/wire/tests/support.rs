//! The two sides, and what they were given.

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::task::{spawn_blocking, yield_now};
use tokio_util::task::TaskTracker;

use super::super::{
    channel::Channel,
    error::Refusal,
    join::{Joined, join_blocking},
    offer::{Committed, Offer, ReadyPeer, offer},
    packet::LONGEST_PACKET,
    protocol::{
        Blob, Commit, ConnectionRecord, Connections, Hello, Join, ListenerRecord, Listeners, Message, Offered, Ready,
        SectionKind,
    },
    reason::ReturnReason,
    receive::{ConnectionReceiver, NewProcess, ReceiverHandle},
    records::Payload,
    section::Section,
    send::{ConnectionSender, OldProcess, SenderHandle},
    version::{OLDEST_VERSION, VERSION},
};
use crate::idle_connection::IdleConnection;
use crate::{
    addr::{PeerAddr, UnixPeer},
    drain::Counters,
    idle_connection::{Accepts, Elapsed, Protocol, Reservation, Times},
    sys::{process::Process, scm},
};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An old process that notes what happens to it.
#[derive(Debug, Default)]
pub(crate) struct Old {
    pub(crate) resumed: Vec<(u64, ReturnReason)>,
    /// Why no more was sent from some time on.
    pub(crate) stopped: Vec<ReturnReason>,
}

impl OldProcess for Old {
    fn resume(&mut self, connection: IdleConnection, why: &ReturnReason) {
        self.resumed.push((inode(&connection.stream), why.clone()));
    }

    fn stop_moving(&mut self, why: &ReturnReason) {
        self.stopped.push(why.clone());
    }
}

/// A new process that notes what it takes.
#[derive(Debug, Default)]
pub(crate) struct New {
    pub(crate) served: Vec<IdleConnection>,
    pub(crate) finals: Vec<Section>,
    /// The reason to refuse everything.
    pub(crate) refuses: Option<String>,
}

impl NewProcess for New {
    fn admit(&mut self, _: &[IdleConnection]) -> Result<(), String> {
        self.refuses.clone().map_or(Ok(()), Err)
    }

    fn serve(&mut self, connections: Vec<IdleConnection>) {
        self.served.extend(connections);
    }

    async fn take_final(&mut self, section: Section) -> Result<(), String> {
        self.finals.push(section);
        self.refuses.clone().map_or(Ok(()), Err)
    }
}

/// Says what a connection is without a descriptor of its own.
pub(crate) fn inode(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

/// A connection whose other end is closed.
pub(crate) fn connection(ahead: impl Into<Bytes>) -> IdleConnection {
    IdleConnection {
        listener: "http".into(),
        stream: UnixStream::pair().unwrap().0.into(),
        peer: PeerAddr::Unix(UnixPeer::default()),
        read_ahead: ahead.into(),
        protocol: Protocol::Http1,
        times: Times::now(),
        reservation: None,
    }
}

/// Counts the connections that this process still has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeps(TaskTracker);

impl Keeps {
    pub(crate) fn on(&self, mut connection: IdleConnection) -> IdleConnection {
        let counters = Arc::new(Counters::new("http".into()));
        connection.reservation = Some(Reservation::new(counters, self.0.token(), None));
        connection
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// An offer of `listeners` sockets, attached, and of these sections.
pub(crate) fn an_offer(listeners: usize, sections: Vec<Section>) -> Offer {
    let listener = |i| {
        let record = ListenerRecord { name: format!("name{i}"), created: None, bound: i % 2 == 0 };
        (record, OwnedFd::from(UnixStream::pair().unwrap().0))
    };
    Offer { generation: 7, draining: 2, listeners: (0..listeners).map(listener).collect(), attach: true, sections }
}

pub(crate) fn section(kind: SectionKind, name: &str, data: impl Into<Bytes>) -> Section {
    Section { kind, name: name.to_owned(), version: 3, data: data.into() }
}

/// Offers and joins; the new process is not ready yet.
pub(crate) async fn meet(an_offer: Offer) -> (tokio::task::JoinHandle<Result<ReadyPeer, Refusal>>, Joined) {
    let (channel, control) = Channel::pair().unwrap();
    let old = tokio::spawn(offer(channel, an_offer));
    let joined = spawn_blocking(|| join_blocking(control, Instant::now() + PATIENCE)).await.unwrap().unwrap();
    (old, joined)
}

/// A handoff right after its commit.
pub(crate) async fn committed() -> ((ConnectionSender, SenderHandle), (ConnectionReceiver, ReceiverHandle)) {
    committed_accepting(Vec::new()).await
}

/// A handoff right after its commit, to a process that takes such connections beside those of HTTP/1.
pub(crate) async fn committed_accepting(
    accepts: Vec<(Arc<str>, Accepts)>,
) -> ((ConnectionSender, SenderHandle), (ConnectionReceiver, ReceiverHandle)) {
    let (old, joined) = meet(an_offer(1, Vec::new())).await;
    let candidate = joined.control.into_candidate().unwrap();
    let new =
        tokio::spawn(async move { candidate.ready(Vec::new(), &accepts).await.map(|()| candidate.into_receiver()) });
    let Committed { sender, handle } = old.await.unwrap().unwrap().commit().await.unwrap();
    ((sender, handle), new.await.unwrap().unwrap())
}

/// A process beside this one; it ends with its standard input.
pub(crate) fn another_process() -> (Child, Process) {
    let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    let process = Process::new(child.id(), pidfd);
    (child, process)
}

/// A process that has ended.
pub(crate) fn an_ended_process() -> Process {
    let (mut child, process) = another_process();
    child.wait().unwrap();
    process
}

/// Moves `count` connections; the handle is gone.
pub(crate) fn fill(handle: SenderHandle, keeps: &Keeps, count: usize, ahead: &'static [u8]) {
    (0..count).for_each(|_| handle.send(keeps.on(connection(ahead))).unwrap());
    drop(handle);
}

/// One side played by hand.
#[derive(Debug)]
pub(crate) struct Raw(pub(crate) Channel);

impl Raw {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(Channel::new(fd).unwrap())
    }

    pub(crate) async fn say(&self, message: impl Into<Message>) {
        self.0.send(message, &[]).await.unwrap();
    }

    pub(crate) async fn say_with(&self, message: impl Into<Message>, fds: &[impl AsFd]) {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.0.send(message, &fds).await.unwrap();
    }

    /// Sends what may be no message.
    pub(crate) async fn throw(&self, packet: &[u8]) {
        self.0.send_packet(packet, &[]).await.unwrap();
    }

    pub(crate) async fn hear(&self) -> Message {
        self.0.receive("a message").await.unwrap().message
    }

    /// The next packet, whatever it is.
    pub(crate) async fn hear_packet(&self) -> Vec<u8> {
        let mut buffer = vec![0; LONGEST_PACKET];
        loop {
            match scm::receive(self.0.as_fd(), &mut buffer) {
                Ok(received) => return buffer[..received.len].to_vec(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The connections of the next message.
    pub(crate) async fn hear_connections(&self) -> (Vec<ConnectionRecord>, Vec<OwnedFd>) {
        let envelope = self.0.receive("connections").await.unwrap();
        match envelope.message {
            Message::Connections(connections) => (connections.records, envelope.fds),
            message => panic!("{message:?}"),
        }
    }

    /// What is said until the end.
    pub(crate) async fn hear_out(&self) -> Vec<Message> {
        let mut heard = Vec::new();
        while let Ok(envelope) = self.0.receive("the end").await {
            heard.push(envelope.message);
        }
        heard
    }

    /// What has been said up to now.
    pub(crate) fn hear_out_now(&self) -> Vec<Message> {
        let mut heard = Vec::new();
        let (mut buffer, fd) = (vec![0; 1 << 17], self.0.as_fd());
        while let Some(received) = scm::receive(fd, &mut buffer).ok().filter(|received| received.len > 0) {
            heard.extend(Message::decode(&buffer[..received.len]).unwrap());
        }
        heard
    }

    /// The reason of the last thing that is said, which is an `Abort`.
    pub(crate) async fn hear_abort(&self) -> String {
        match self.hear_out().await.pop() {
            Some(Message::Abort(abort)) => abort.reason,
            other => panic!("{other:?}"),
        }
    }
}

/// As a successor, up to its `Ready`.
pub(crate) async fn play_joining(new: &Raw) {
    new.say(Join::own()).await;
    while !matches!(new.hear().await, Message::Offered(_)) {}
    new.say(Ready {}).await;
}

/// An old process right after its commit, and a successor that is played by hand.
pub(crate) async fn committed_to_raw() -> (ConnectionSender, SenderHandle, Raw) {
    let (channel, control) = Channel::pair().unwrap();
    let new = Raw::new(control);
    let (prepared, ()) = tokio::join!(offer(channel, an_offer(1, Vec::new())), play_joining(&new));
    let Committed { sender, handle } = prepared.unwrap().commit().await.unwrap();
    assert_eq!(new.hear().await, Commit {}.into());
    (sender, handle, new)
}

/// As a predecessor, up to its `Offered`; then the new process's side.
pub(crate) async fn join_raw() -> (Raw, Joined) {
    let (own, control) = scm::pair().unwrap();
    let old = Raw::new(own);
    old.say(hello()).await;
    old.say(Listeners { records: Vec::new(), more: false }).await;
    old.say(Offered {}).await;
    let joined = spawn_blocking(|| join_blocking(control, Instant::now() + PATIENCE)).await.unwrap().unwrap();
    assert_eq!(old.hear().await, Join::own().into());
    (old, joined)
}

/// A new process right after the commit, and a predecessor that is played by hand.
pub(crate) async fn committed_by_raw() -> (ConnectionReceiver, ReceiverHandle, Raw) {
    let (old, joined) = join_raw().await;
    old.say(Commit {}).await;
    let (receiver, handle) = joined.control.into_candidate().unwrap().into_ready_receiver().await.unwrap();
    assert_eq!(old.hear().await, Ready {}.into());
    (receiver, handle, old)
}

pub(crate) fn hello() -> Hello {
    Hello { version: VERSION, oldest_version: OLDEST_VERSION, generation: 1, pid: 1, draining: 0 }
}

/// A message that moves `count` connections with nothing ahead, and their descriptors.
pub(crate) fn a_move(count: usize) -> (Connections, Vec<OwnedFd>) {
    let connections = (0..count).map(|_| connection(""));
    let (records, fds) =
        connections.map(|connection| (a_record(Payload::Inline(Blob::default())), connection.stream)).unzip();
    (Connections { records }, fds)
}

pub(crate) fn a_record(read_ahead: Payload) -> ConnectionRecord {
    let peer = PeerAddr::Unix(UnixPeer::default());
    ConnectionRecord { listener: "http".to_owned(), peer, undetected: false, read_ahead, elapsed: Elapsed::default() }
}

pub(crate) fn inodes(fds: &[impl AsFd]) -> Vec<u64> {
    fds.iter().map(inode).collect()
}
