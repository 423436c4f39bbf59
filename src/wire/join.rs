//! The new process's side up to the commit.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use super::{
    channel::{BlockingChannel, Channel, Envelope, leave, reason, unexpected},
    error::Refusal,
    moved::MovedListener,
    protocol::{Failed, Hello, Join, Leaving, ListenerRecord, Listeners, Message, Moved, Ready, Wait},
    receive::{ConnectionReceiver, ReceiverHandle},
    section::Section,
};
use crate::{
    log,
    sys::{
        peer::{self, Peer},
        process::Process,
    },
};

/// The most listeners and the most sections that a predecessor may have.
const MOST_PARTS: usize = 4096;

/// The most that a predecessor has this process wait for the end of an older generation.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// What the predecessor has offered.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) hello: Hello,
    /// Without a descriptor where they were inherited in the same order.
    pub(crate) listeners: Vec<(ListenerRecord, Option<OwnedFd>)>,
    pub(crate) sections: Vec<Section>,
    /// The predecessor has ended since it told its listeners, so sections may be missing, and this process serves alone.
    pub(crate) is_orphaned: bool,
    /// Who the predecessor is, as the kernel says.
    pub(crate) peer: Peer,
    pub(crate) control: Control,
}

/// The control socket, until there is a runtime.
#[derive(Debug)]
pub(crate) struct Control(OwnedFd);

/// A process that initialises itself with what it was offered.
#[derive(Debug)]
#[must_use = "the predecessor waits for an answer"]
pub(crate) struct Candidate {
    channel: Channel,
    /// `None` if the kernel does not tell: it lives in another pid namespace, or has ended.
    predecessor: Option<Process>,
}

/// Says who this process is on `control`, and receives what it is offered. Blocks up to `deadline`.
///
/// # Errors
///
/// [`is_gone`](Refusal::is_gone) if the predecessor ended before it told its listeners.
pub(crate) fn join_blocking(control: OwnedFd, deadline: Instant) -> Result<Joined, Refusal> {
    let peer = peer::credentials(&control).map_err(Refusal::system("ask who has the control socket"))?;
    let mut channel = BlockingChannel::new(control, deadline)?;
    let joined = channel.send(Join::own(), "a `Hello`").and_then(|()| receive_offer(&mut channel));
    match joined {
        Ok((hello, listeners, offered)) => Ok(Joined {
            hello,
            listeners,
            is_orphaned: offered.is_none(),
            sections: offered.unwrap_or_default(),
            peer,
            control: Control(channel.into_fd()),
        }),
        Err(refusal) => {
            // It may have gone on to something else, or not read at all: nothing that this process has to wait for.
            channel.try_send(Failed { reason: reason(&refusal) });
            Err(refusal)
        }
    }
}

impl Control {
    /// Tells the predecessor that this process stops.
    pub(crate) fn leave(self) {
        leave(&self.0);
    }

    /// Registers the control socket with the current runtime.
    pub(crate) fn into_candidate(self) -> io::Result<Candidate> {
        let predecessor = peer::process(&self.0).ok();
        Ok(Candidate { channel: Channel::new(self.0)?, predecessor })
    }
}

impl Candidate {
    /// Tells the predecessor that this process will not take over, and why.
    pub(crate) fn fail(self, why: &str) {
        self.channel.try_send(Failed { reason: reason(why) });
    }

    /// Tells the predecessor that this process stops. To one that has committed meanwhile it is the stop of its successor.
    pub(crate) fn leave(self) {
        self.channel.try_send(Leaving {});
    }

    /// Goes on with what comes after the commit.
    pub(crate) fn into_receiver(self) -> (ConnectionReceiver, ReceiverHandle) {
        ConnectionReceiver::new(self.channel, self.predecessor)
    }

    #[cfg(test)]
    pub(crate) async fn ready(self) -> Result<(ConnectionReceiver, ReceiverHandle), Refusal> {
        self.committed(Vec::new()).await.map(|()| self.into_receiver())
    }

    /// Tells the predecessor that this process is able to accept, and waits until it may.
    ///
    /// # Errors
    ///
    /// [`is_gone`](Refusal::is_gone) if the predecessor ended: this process accepts all the same. Otherwise the predecessor has
    /// called the handoff off and serves on.
    ///
    /// # Cancel safety
    ///
    /// It only waits; to drop the candidate closes the control socket, and the predecessor serves on, unless it has committed just now.
    pub(crate) async fn committed(&self, moved: Vec<MovedListener>) -> Result<(), Refusal> {
        if !moved.is_empty() {
            self.channel.send(Moved { listeners: moved }, &[]).await?;
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
