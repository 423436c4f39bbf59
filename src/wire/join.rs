//! The new process's side up to the commit.
//!
//! [`join_blocking`] receives what the old process offers; it needs no runtime, so the sockets are there before anything else starts.
//! [`Control::into_candidate`] registers the control socket with the runtime, and [`Candidate::ready`] says that this process is
//! ready and waits until it may accept.

use std::{
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    accepts,
    channel::{BlockingChannel, Channel, leave, reason, unexpected},
    error::Refusal,
    inbox::{Envelope, Inbox},
    moved::ReplacedListener,
    protocol::{Failed, Hello, Join, Leaving, ListenerRecord, Listeners, Message, Moved, Ready, Wait},
    receive::{ConnectionReceiver, ReceiverHandle},
    section::Section,
    version::{WITH_LENGTHS, common_version},
};
use crate::{
    idle_connection::Accepts,
    log,
    sys::{
        peer::{self, Peer},
        process::Process,
    },
};

/// The most listeners, and the most sections, of an offer.
const MOST_PARTS: usize = 4096;

/// The longest time that a predecessor can ask for, to wait for the end of an older generation.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// What the predecessor offers.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) hello: Hello,
    /// Without a descriptor if this process was spawned: it has inherited them, in the same order.
    pub(crate) listeners: Vec<(ListenerRecord, Option<OwnedFd>)>,
    pub(crate) sections: Vec<Section>,
    /// The predecessor has ended after its listeners were complete. Sections may be missing, and this process serves alone.
    pub(crate) is_orphaned: bool,
    /// The credentials of the predecessor, from the kernel.
    pub(crate) peer: Peer,
    pub(crate) control: Control,
}

/// The control socket after the offer, until there is a runtime.
#[derive(Debug)]
pub(crate) struct Control {
    fd: OwnedFd,
    inbox: Inbox,
    /// The version that is spoken.
    version: u32,
}

/// This process while it starts up with what it was offered.
#[derive(Debug)]
#[must_use = "the predecessor waits for an answer"]
pub(crate) struct Candidate {
    channel: Channel,
    version: u32,
    /// `None` if the kernel does not show it: it lives in another pid namespace, or has ended.
    predecessor: Option<Process>,
}

/// Joins the handoff on `control`, and receives the offer. Blocks up to `deadline`.
///
/// # Errors
///
/// [`is_gone`](Refusal::is_gone) if the predecessor ended before its listeners were complete.
pub(crate) fn join_blocking(control: OwnedFd, deadline: Instant) -> Result<Joined, Refusal> {
    let peer = peer::credentials(&control).map_err(Refusal::system("ask who has the control socket"))?;
    let mut channel = BlockingChannel::new(control, deadline)?;
    let joined = channel.send(Join::own(), "a `Hello`").and_then(|()| receive_offer(&mut channel));
    match joined {
        Ok((hello, listeners, offered)) => {
            let (fd, inbox) = channel.into_parts();
            let version = common_version(hello.version);
            Ok(Joined {
                hello,
                listeners,
                is_orphaned: offered.is_none(),
                sections: offered.unwrap_or_default(),
                peer,
                control: Control { fd, inbox, version },
            })
        }
        Err(refusal) => {
            // The predecessor may not read any more, so this process does not wait for it.
            channel.try_send(Failed { reason: reason(&refusal) });
            Err(refusal)
        }
    }
}

impl Control {
    /// Sends that this process stops.
    pub(crate) fn leave(self) {
        leave(&self.fd);
    }

    /// Registers the control socket with the current runtime.
    pub(crate) fn into_candidate(self) -> io::Result<Candidate> {
        let Self { fd, inbox, version } = self;
        let predecessor = peer::process(&fd).ok();
        Ok(Candidate { channel: Channel::with_inbox(fd, inbox)?, version, predecessor })
    }
}

impl Candidate {
    /// Sends that this process does not take over, and why.
    pub(crate) fn fail(self, why: &str) {
        self.channel.try_send(Failed { reason: reason(why) });
    }

    /// Sends that this process stops. A predecessor that has committed meanwhile takes it for the stop of its successor.
    pub(crate) fn leave(self) {
        self.channel.try_send(Leaving {});
    }

    /// The next step, after the commit.
    pub(crate) fn into_receiver(self) -> (ConnectionReceiver, ReceiverHandle) {
        ConnectionReceiver::new(self.channel, self.predecessor)
    }

    #[cfg(test)]
    pub(crate) async fn into_ready_receiver(self) -> Result<(ConnectionReceiver, ReceiverHandle), Refusal> {
        self.ready(Vec::new(), &[]).await.map(|()| self.into_receiver())
    }

    /// Sends that this process is able to accept, and waits until it may. It does not go on with the listeners `replaced`, and takes
    /// connections as `accepts` says by the names of the listeners.
    ///
    /// # Errors
    ///
    /// [`is_gone`](Refusal::is_gone) if the predecessor has ended: this process then accepts at once. Otherwise the predecessor has
    /// aborted the handoff and serves on.
    ///
    /// # Cancel safety
    ///
    /// A dropped future only stops waiting. Dropping the candidate closes the control socket: the predecessor serves on, unless it has
    /// committed just now.
    pub(crate) async fn ready(
        &self,
        replaced: Vec<ReplacedListener>,
        accepts: &[(Arc<str>, Accepts)],
    ) -> Result<(), Refusal> {
        if !replaced.is_empty() {
            self.channel.send(Moved { listeners: replaced }, &[]).await?;
        }
        if self.version >= WITH_LENGTHS {
            for message in accepts::messages(accepts) {
                self.channel.send(message, &[]).await?;
            }
        }
        self.channel.send(Ready {}, &[]).await?;
        match self.channel.receive("a `Commit`").await?.message {
            Message::Commit(_) => Ok(()),
            message => {
                let refusal = unexpected(message, "a `Commit`");
                self.channel.try_send(Failed { reason: reason(&refusal) });
                Err(refusal)
            }
        }
    }
}

type Offered = (Hello, Vec<(ListenerRecord, Option<OwnedFd>)>, Option<Vec<Section>>);

fn receive_offer(channel: &mut BlockingChannel) -> Result<Offered, Refusal> {
    let hello = loop {
        match channel.receive("a `Hello`")?.message {
            Message::Hello(hello) => break hello,
            Message::Wait(Wait { milliseconds }) => {
                log::info!(milliseconds, "the predecessor waits for the end of an older generation");
                channel.extend(Duration::from_millis(milliseconds).min(LONGEST_WAIT));
            }
            message => return Err(unexpected(message, "a `Hello`")),
        }
    };
    hello.check()?;
    let listeners = receive_listeners(channel)?;
    match receive_sections(channel) {
        Ok(sections) => Ok((hello, listeners, Some(sections))),
        Err(refusal) if refusal.is_gone() => Ok((hello, listeners, None)),
        Err(refusal) => Err(refusal),
    }
}

fn receive_listeners(channel: &mut BlockingChannel) -> Result<Vec<(ListenerRecord, Option<OwnedFd>)>, Refusal> {
    let mut listeners = Vec::new();
    loop {
        let Envelope { message, fds, lacks_fds } = channel.receive("`Listeners`")?;
        let Listeners { records, more } = match message {
            Message::Listeners(message) => message,
            message => return Err(unexpected(message, "`Listeners`")),
        };
        if lacks_fds {
            return Err(too_few_descriptors());
        }
        if !fds.is_empty() && fds.len() != records.len() {
            let problem = format!("{} came with {} listeners", fds.len(), records.len());
            return Err(Refusal::Descriptors { problem });
        }
        let fds = fds.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        listeners.extend(records.into_iter().zip(fds));
        if listeners.len() > MOST_PARTS {
            return Err(Refusal::Malformed { problem: format!("more than {MOST_PARTS} listeners"), is_answer: false });
        }
        if !more {
            return Ok(listeners);
        }
    }
}

fn receive_sections(channel: &mut BlockingChannel) -> Result<Vec<Section>, Refusal> {
    let mut sections = Vec::new();
    loop {
        let Envelope { message, fds, lacks_fds } = channel.receive("`Offered`")?;
        match message {
            Message::SectionRecord(_) if lacks_fds => return Err(too_few_descriptors()),
            Message::SectionRecord(record) if sections.len() < MOST_PARTS => {
                sections.push(Section::unpack(record, fds)?);
            }
            Message::Offered(_) => return Ok(sections),
            message => return Err(unexpected(message, "`Offered`")),
        }
    }
}

fn too_few_descriptors() -> Refusal {
    Refusal::Descriptors { problem: "not all fit into this process's table, raise LimitNOFILE=".to_owned() }
}
