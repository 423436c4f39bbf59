//! The old process's side up to the commit: until then nothing has changed for anybody.

use std::{
    ops::{Deref, Range},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use super::{
    channel::{Channel, reason, unexpected},
    error::Refusal,
    moved::MovedListener,
    packet::LONGEST_PACKET,
    protocol::{Abort, Commit, Hello, Join, ListenerRecord, Listeners, Message, Offered, Wait},
    section::Section,
    send::{ConnectionSender, SenderHandle},
    version::{OLDEST_VERSION, VERSION, common_version},
};
use crate::sys::{peer, process::Process, scm::MOST_FDS};

/// What the successor is offered.
#[derive(Debug)]
pub(crate) struct Offer {
    /// How many handoffs there were up to this process.
    pub(crate) generation: u64,
    /// How many older generations still drain.
    pub(crate) draining: u32,
    pub(crate) listeners: Vec<(ListenerRecord, OwnedFd)>,
    /// Whether the listeners themselves are sent; a child has inherited them in the same order.
    pub(crate) attach: bool,
    pub(crate) sections: Vec<Section>,
}

/// Who is at the other end of a control socket.
#[derive(Debug)]
pub(crate) enum Peer {
    /// A process that would take over.
    Applicant(Applicant),
    /// A program that asks for a handoff and waits for [`Outcome`](super::protocol::Outcome).
    Operator(Channel),
}

/// A process that would take over.
#[derive(Debug)]
pub(crate) struct Applicant {
    channel: AbortOnDrop,
    /// Its process id, as the kernel says: 0 if it cannot be seen from this pid namespace, and this process's own where that has
    /// started it and left it one end of a pair.
    pub(crate) pid: u32,
    /// The version that is spoken with it.
    version: u32,
}

/// A successor that is able to accept and waits for the commit.
#[derive(Debug)]
#[must_use = "dropping it aborts the handoff"]
pub(crate) struct ReadyPeer {
    channel: AbortOnDrop,
    /// As that of the [`Applicant`].
    pub(crate) pid: u32,
    version: u32,
    /// What it does not go on with.
    pub(crate) moved: Vec<MovedListener>,
}

/// Waits for the first word. A successor of a version that cannot be spoken to is told so.
///
/// # Cancel safety
///
/// Dropping the future closes the channel.
pub(crate) async fn accept_hello(channel: Channel) -> Result<Peer, Refusal> {
    match channel.receive("a `Join`").await?.message {
        Message::Join(join) => Applicant::new(channel, &join).map(Peer::Applicant),
        Message::HandOver(_) => Ok(Peer::Operator(channel)),
        message => Err(unexpected(message, "a `Join`")),
    }
}

/// Offers `offer` to whoever joins on `channel`, and waits until it is ready.
///
/// # Cancel safety
///
/// Dropping the future aborts the handoff.
pub(crate) async fn offer(channel: Channel, offer: Offer) -> Result<ReadyPeer, Refusal> {
    match accept_hello(channel).await? {
        Peer::Applicant(joiner) => joiner.offer(offer).await,
        Peer::Operator(_) => Err(Refusal::OutOfOrder { came: "a `HandOver`", awaited: "a `Join`" }),
    }
}

impl Applicant {
    fn new(channel: Channel, join: &Join) -> Result<Self, Refusal> {
        let (pid, version) = (peer::credentials(&channel).map_or(0, |peer| peer.pid), common_version(join.version));
        let joiner = Self { channel: AbortOnDrop(Some(channel)), pid, version };
        match join.check() {
            Ok(()) => Ok(joiner),
            Err(refusal) => {
                joiner.refuse(&refusal.to_string());
                Err(refusal)
            }
        }
    }

    /// Tells it that the offer comes within `time`, as an older generation has to end before. The reason when it does not wait so long.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops watching.
    pub(crate) async fn wait(&self, time: Duration) -> Refusal {
        self.channel.try_send(Wait { milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX) });
        match self.channel.receive("the end of an older generation").await {
            Ok(envelope) => unexpected(envelope.message, "the end of an older generation"),
            Err(refusal) => refusal,
        }
    }

    /// Sends it away.
    pub(crate) fn refuse(self, reason: &str) {
        self.channel.abort(reason);
    }

    /// Leaves it without a word, so that it takes this process for gone.
    pub(crate) fn leave(self) {
        drop(self.channel.decide());
    }

    /// Offers `offer` to it, and waits until it is ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the handoff.
    pub(crate) async fn offer(self, offer: Offer) -> Result<ReadyPeer, Refusal> {
        let Self { channel, pid, version } = self;
        let ready = async {
            send_offer(&channel, offer, version).await?;
            let mut moved = Vec::new();
            loop {
                match channel.receive("a `Ready`").await?.message {
                    Message::Ready(_) => return Ok(moved),
                    Message::Moved(message) => moved = message.listeners,
                    message => return Err(unexpected(message, "a `Ready`")),
                }
            }
        };
        match ready.await {
            Ok(moved) => Ok(ReadyPeer { channel, pid, version, moved }),
            Err(refusal) => {
                channel.abort(&refusal.to_string());
                Err(refusal)
            }
        }
    }
}

impl ReadyPeer {
    /// Its process, while it waits; `None` where the kernel does not show it.
    pub(crate) fn process(&self) -> Option<Process> {
        peer::process(&*self.channel).ok()
    }

    /// Lets it accept. After an error nothing has changed, and it never will have.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, it has not committed: the commit is the last thing that it does.
    pub(crate) async fn commit(self) -> Result<(ConnectionSender, SenderHandle), Refusal> {
        let committed = async {
            self.channel.check_no_message("a commit")?;
            self.channel.send(Commit {}, &[]).await
        };
        match committed.await {
            Ok(()) => Ok(ConnectionSender::new(self.channel.decide(), self.version)),
            Err(refusal) => {
                self.channel.abort(&refusal.to_string());
                Err(refusal)
            }
        }
    }
}

async fn send_offer(channel: &Channel, offer: Offer, version: u32) -> Result<(), Refusal> {
    let Offer { generation, draining, listeners, attach, sections } = offer;
    let pid = std::process::id();
    channel.send(Hello { version: VERSION, oldest_version: OLDEST_VERSION, generation, pid, draining }, &[]).await?;
    send_listeners(channel, &listeners, attach, version).await?;
    for section in sections {
        section.send(channel).await?;
    }
    channel.send(Offered {}, &[]).await
}

async fn send_listeners(
    channel: &Channel,
    listeners: &[(ListenerRecord, OwnedFd)],
    attach: bool,
    version: u32,
) -> Result<(), Refusal> {
    for range in messages(listeners) {
        let more = range.end < listeners.len();
        let part = &listeners[range];
        let records = part.iter().map(|(record, _)| record.clone()).collect();
        let fds: Vec<_> = part.iter().filter(|_| attach).map(|(_, fd)| fd.as_fd()).collect();
        channel.send_encoded(&Listeners { records, more }.encode_for(version)?, &fds).await?;
    }
    Ok(())
}

/// Which listeners go into a message each; one message even for none.
fn messages(listeners: &[(ListenerRecord, OwnedFd)]) -> Vec<Range<usize>> {
    /// What a message takes besides its records.
    const HEAD: usize = 16;
    /// What the length of a record takes.
    const LENGTH: usize = 3;
    let (mut ranges, mut start, mut size) = (Vec::new(), 0, HEAD);
    for (i, (record, _)) in listeners.iter().enumerate() {
        let len = postcard::to_allocvec(record).map_or(0, |record| LENGTH + record.len());
        if i > start && (i - start == MOST_FDS || size + len > LONGEST_PACKET) {
            ranges.push(start..i);
            (start, size) = (i, HEAD);
        }
        size += len;
    }
    ranges.push(start..listeners.len());
    ranges
}

/// A channel whose other end must not take silence for the death of this process: dropped, it says that the handoff is off.
#[derive(Debug)]
struct AbortOnDrop(Option<Channel>);

impl AbortOnDrop {
    fn decide(mut self) -> Channel {
        match self.0.take() {
            Some(channel) => channel,
            None => unreachable!("it is taken once, by value"),
        }
    }

    fn abort(self, why: &str) {
        self.decide().try_send(Abort { reason: reason(why) });
    }
}

impl Deref for AbortOnDrop {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        match &self.0 {
            Some(channel) => channel,
            None => unreachable!("it is taken once, by value"),
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(channel) = &self.0 {
            channel.try_send(Abort { reason: "the handoff was called off".to_owned() });
        }
    }
}
