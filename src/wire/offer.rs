//! The old process's side up to the commit.
//!
//! Each step is a type, and each is consumed by the next one, so a wrong order does not compile: [`accept_join`] gives an
//! [`Applicant`], [`Applicant::offer`] a [`ReadyPeer`], [`ReadyPeer::commit`] a [`Committed`]. Dropping one of the first two, or the
//! future of a step, aborts the handoff. Until the commit nothing has changed for any client.

use std::{
    ops::{Deref, Range},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use super::{
    accepts::SuccessorAccepts,
    channel::{Channel, reason, unexpected},
    error::Refusal,
    moved::ReplacedListener,
    packet::LONGEST_PACKET,
    protocol::{Abort, Commit, Hello, Join, ListenerRecord, Listeners, Message, Offered, Wait},
    section::Section,
    send::{ConnectionSender, SenderHandle},
    version::{OLDEST_VERSION, VERSION, WITH_LENGTHS, common_version},
};
use crate::sys::{peer, process::Process, scm::MOST_FDS};

/// What the new process is offered.
#[derive(Debug)]
pub(crate) struct Offer {
    /// How many handoffs there were up to this process.
    pub(crate) generation: u64,
    /// How many older generations still drain.
    pub(crate) draining: u32,
    pub(crate) listeners: Vec<(ListenerRecord, OwnedFd)>,
    /// Whether the descriptors of the listeners are sent. A process that was spawned has inherited them in the same order.
    pub(crate) attach: bool,
    pub(crate) sections: Vec<Section>,
}

/// The process at the other end of a control socket.
#[derive(Debug)]
pub(crate) enum Peer {
    /// A process that wants to take over.
    Applicant(Applicant),
    /// A program that asks for a handoff and waits for [`Outcome`](super::protocol::Outcome).
    Operator(Channel),
}

/// A process that wants to take over, and waits for an offer.
#[derive(Debug)]
pub(crate) struct Applicant {
    channel: AbortingChannel,
    /// Its process id, as the kernel says: 0 if it cannot be seen from this pid namespace, and this process's own where that has
    /// started it and left it one end of a pair.
    pub(crate) pid: u32,
    /// The version that is spoken with it.
    version: u32,
}

/// A process that is able to accept, and waits for the commit.
#[derive(Debug)]
#[must_use = "dropping it aborts the handoff"]
pub(crate) struct ReadyPeer {
    channel: AbortingChannel,
    /// As that of the [`Applicant`].
    pub(crate) pid: u32,
    version: u32,
    /// The listeners that it does not go on with.
    pub(crate) replaced: Vec<ReplacedListener>,
    accepts: SuccessorAccepts,
}

/// The new process accepts, and connections can move to it.
#[derive(Debug)]
#[must_use = "no connection moves unless the sender runs"]
pub(crate) struct Committed {
    pub(crate) sender: ConnectionSender,
    pub(crate) handle: SenderHandle,
}

/// Waits for the first message on `channel`. A process whose versions this one does not speak gets the reason.
///
/// # Cancel safety
///
/// Dropping the future closes the channel.
pub(crate) async fn accept_join(channel: Channel) -> Result<Peer, Refusal> {
    match channel.receive("a `Join`").await?.message {
        Message::Join(join) => Applicant::new(channel, &join).map(Peer::Applicant),
        Message::HandOver(_) => Ok(Peer::Operator(channel)),
        message => Err(unexpected(message, "a `Join`")),
    }
}

/// Waits for a process that joins on `channel`, offers it `offer`, and waits until it is ready.
///
/// # Cancel safety
///
/// Dropping the future aborts the handoff.
pub(crate) async fn offer(channel: Channel, offer: Offer) -> Result<ReadyPeer, Refusal> {
    match accept_join(channel).await? {
        Peer::Applicant(applicant) => applicant.offer(offer).await,
        Peer::Operator(_) => Err(Refusal::OutOfOrder { came: "a `HandOver`", awaited: "a `Join`" }),
    }
}

impl Applicant {
    fn new(channel: Channel, join: &Join) -> Result<Self, Refusal> {
        let (pid, version) = (peer::credentials(&channel).map_or(0, |peer| peer.pid), common_version(join.version));
        let applicant = Self { channel: AbortingChannel(Some(channel)), pid, version };
        match join.check() {
            Ok(()) => Ok(applicant),
            Err(refusal) => {
                applicant.refuse(&refusal.to_string());
                Err(refusal)
            }
        }
    }

    /// Asks it to wait `time` for the offer, as an older generation has to end first. Returns when it does not wait any more, with the
    /// reason.
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

    /// Aborts the handoff, for that reason.
    pub(crate) fn refuse(self, reason: &str) {
        self.channel.abort(reason);
    }

    /// Closes the control socket without a message, so that it takes this process for dead.
    pub(crate) fn leave(self) {
        drop(self.channel.into_inner());
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
            let (mut replaced, mut accepts) = (Vec::new(), SuccessorAccepts::default());
            loop {
                match channel.receive("a `Ready`").await?.message {
                    Message::Ready(_) => return Ok((replaced, accepts)),
                    Message::Moved(message) => replaced = message.listeners,
                    Message::Accepts(message) => accepts.add(message),
                    message => return Err(unexpected(message, "a `Ready`")),
                }
            }
        };
        match ready.await {
            // No other version has the messages of what it takes.
            Ok((replaced, _)) if version < WITH_LENGTHS => {
                Ok(ReadyPeer { channel, pid, version, replaced, accepts: SuccessorAccepts::default() })
            }
            Ok((replaced, accepts)) => Ok(ReadyPeer { channel, pid, version, replaced, accepts }),
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

    /// Lets it accept.
    ///
    /// # Errors
    ///
    /// It has ended or given up meanwhile. Nothing has changed, and it does not accept.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it is ready has not committed: to send the commit is the last thing that it does.
    pub(crate) async fn commit(self) -> Result<Committed, Refusal> {
        let committed = async {
            self.channel.check_no_message("a commit")?;
            self.channel.send(Commit {}, &[]).await
        };
        match committed.await {
            Ok(()) => {
                let (sender, handle) = ConnectionSender::new(self.channel.into_inner(), self.version, self.accepts);
                Ok(Committed { sender, handle })
            }
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

/// Which listeners go into which message. For none there is one empty message.
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

/// A channel that says when it is dropped that the handoff is off: the other process would take silence for the death of this one.
#[derive(Debug)]
struct AbortingChannel(Option<Channel>);

impl AbortingChannel {
    fn into_inner(mut self) -> Channel {
        match self.0.take() {
            Some(channel) => channel,
            None => unreachable!("it is taken once, by value"),
        }
    }

    fn abort(self, why: &str) {
        self.into_inner().try_send(Abort { reason: reason(why) });
    }
}

impl Deref for AbortingChannel {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        match &self.0 {
            Some(channel) => channel,
            None => unreachable!("it is taken once, by value"),
        }
    }
}

impl Drop for AbortingChannel {
    fn drop(&mut self) {
        if let Some(channel) = &self.0 {
            channel.try_send(Abort { reason: "the handoff was called off".to_owned() });
        }
    }
}
