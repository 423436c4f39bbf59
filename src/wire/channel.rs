//! The control socket of a handoff: whole messages with their descriptors.
//!
//! [`Channel`] waits on the runtime. [`BlockingChannel`] waits up to a deadline, for a process that has no runtime yet.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::Shutdown,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::yield_now,
    time::sleep,
};

use super::{
    error::Refusal,
    inbox::{Envelope, Inbox},
    protocol::{Abort, Failed, Leaving, Message},
};
use crate::sys::{
    scm,
    socket::{self, SocketFamily, SocketKind},
};

/// How long to wait before descriptors are sent again when too many are in flight (`ETOOMANYREFS`): no event says when there is room.
const IN_FLIGHT_PAUSE: Duration = Duration::from_millis(5);

/// The longest reason that is sent, in bytes.
const LONGEST_REASON: usize = 4 * 1024;

/// A control socket on the runtime. One task may send while another one receives.
#[derive(Debug)]
pub(crate) struct Channel {
    fd: AsyncFd<OwnedFd>,
    inbox: Mutex<Inbox>,
}

impl Channel {
    /// A control socket, and its other end for a process that is to be spawned.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) = scm::pair()?;
        Ok((Self::new(own)?, other))
    }

    /// Registers `fd`, a connected sequential-packet socket, with the current runtime.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Self::with_inbox(fd, Inbox::new())
    }

    /// As [`new`](Self::new), for a socket on which messages have arrived before.
    pub(super) fn with_inbox(fd: OwnedFd, inbox: Inbox) -> io::Result<Self> {
        scm::enlarge_buffer(&fd);
        #[allow(
            deprecated,
            reason = "its unsafe replacement is newer than our oldest tokio, and an OwnedFd keeps its contract"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { fd, inbox: Mutex::new(inbox) })
    }

    /// The next message of a kind that this version knows.
    ///
    /// # Cancel safety
    ///
    /// A message is returned, or the next call receives it.
    pub(crate) async fn receive(&self, awaited: &'static str) -> Result<Envelope, Refusal> {
        loop {
            let read = |fd: &OwnedFd| {
                let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
                inbox.read(fd.as_fd(), awaited)
            };
            let arrived = self.fd.async_io(Interest::READABLE, read).await;
            if let Some(envelope) = arrived.map_err(Refusal::system("receive from the control socket"))?? {
                return Ok(envelope);
            }
            yield_now().await;
        }
    }

    /// Sends an encoded packet, and waits until there is room for it and for its descriptors.
    ///
    /// # Cancel safety
    ///
    /// The packet is sent whole when this returns `Ok`, and not at all otherwise.
    pub(crate) async fn send_packet(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let sent = self.fd.async_io(Interest::WRITABLE, |fd| scm::send(fd, packet, fds)).await;
            match sent {
                Err(error) if scm::is_too_many_in_flight(&error) => sleep(IN_FLIGHT_PAUSE).await,
                sent => return sent,
            }
        }
    }

    /// Sends `message`. If the other process has closed the socket, the reason that it sent before is the refusal.
    pub(crate) async fn send(&self, message: impl Into<Message>, fds: &[BorrowedFd<'_>]) -> Result<(), Refusal> {
        self.send_encoded(&message.into().encode()?, fds).await
    }

    /// As [`send`](Self::send), for an encoded message.
    pub(crate) async fn send_encoded(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Refusal> {
        match self.send_packet(packet, fds).await {
            Err(error) if scm::is_gone(&error) => Err(self.read_abort_reason().await),
            sent => sent.map_err(Refusal::system("send on the control socket")),
        }
    }

    /// Sends `message`; `false` if the other process has closed the socket. What it sent before is still to be received.
    pub(crate) async fn send_if_open(&self, message: impl Into<Message>) -> Result<bool, Refusal> {
        match self.send_packet(&message.into().encode()?, &[]).await {
            Ok(()) => Ok(true),
            Err(error) if scm::is_gone(&error) => Ok(false),
            Err(error) => Err(Refusal::system("send on the control socket")(error)),
        }
    }

    /// Sends nothing more (`shutdown(2)`): the other process reads what was sent, and then the end. This needs no room in the queue, and
    /// what the other process sends is still received.
    pub(crate) fn stop_sending(&self) {
        let _ = rustix::net::shutdown(self.fd.get_ref(), Shutdown::Write);
    }

    /// Sends a message without descriptors if that is possible at once.
    pub(crate) fn try_send(&self, message: impl Into<Message>) {
        try_send(self.fd.get_ref(), &message.into());
    }

    /// An error if the other process has sent a message, such as a reason to abort, or has closed the socket.
    pub(crate) fn check_no_message(&self, awaited: &'static str) -> Result<(), Refusal> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        match inbox.read(self.fd.get_ref().as_fd(), awaited) {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(envelope))) => Err(unexpected(envelope.message, awaited)),
            Ok(Err(refusal)) => Err(refusal),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Refusal::system("receive from the control socket")(error)),
        }
    }

    /// The reason that the other process sent before it closed the socket, if it sent one.
    async fn read_abort_reason(&self) -> Refusal {
        loop {
            match self.receive("an answer").await.map(|envelope| envelope.message) {
                Ok(message @ (Message::Abort(_) | Message::Failed(_) | Message::Leaving(_))) => {
                    return unexpected(message, "an answer");
                }
                Ok(_) => {}
                // The message that was to be sent has not been read.
                Err(Refusal::Gone { awaited, .. }) => return Refusal::Gone { awaited, left_unread: true },
                Err(refusal) => return refusal,
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

/// A control socket before there is a runtime. Every wait ends at the deadline.
#[derive(Debug)]
pub(crate) struct BlockingChannel {
    fd: OwnedFd,
    inbox: Inbox,
    deadline: Instant,
}

impl BlockingChannel {
    /// An error if `fd` is no sequential-packet Unix socket.
    pub(crate) fn new(fd: OwnedFd, deadline: Instant) -> Result<Self, Refusal> {
        match socket::kind(fd.as_fd()) {
            SocketKind::SeqPacket(SocketFamily::Unix) => Ok(Self { fd, inbox: Inbox::new(), deadline }),
            kind => Err(Refusal::Descriptors {
                problem: format!("the control socket is {kind} and not a Unix sequential-packet socket"),
            }),
        }
    }

    pub(crate) fn receive(&mut self, awaited: &'static str) -> Result<Envelope, Refusal> {
        loop {
            // Checked before every packet, as a peer can send packets without end.
            self.remaining(awaited)?;
            match self.inbox.read(self.fd.as_fd(), awaited) {
                Ok(Ok(Some(envelope))) => return Ok(envelope),
                Ok(Ok(None)) => {}
                Ok(Err(refusal)) => return Err(refusal),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::IN, awaited)?,
                Err(error) => return Err(Refusal::system("receive from the control socket")(error)),
            }
        }
    }

    pub(crate) fn send(&mut self, message: impl Into<Message>, awaited: &'static str) -> Result<(), Refusal> {
        let packet = message.into().encode()?;
        loop {
            match scm::send(&self.fd, &packet, &[]) {
                // What it sent before it closed the socket is still to be read.
                Err(error) if scm::is_gone(&error) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::OUT, awaited)?,
                sent => return sent.map_err(Refusal::system("send on the control socket")),
            }
        }
    }

    /// Moves the deadline, as the other process has asked for more time.
    pub(crate) fn extend(&mut self, time: Duration) {
        self.deadline += time;
    }

    /// Sends a message if that is possible at once.
    pub(crate) fn try_send(&self, message: impl Into<Message>) {
        try_send(&self.fd, &message.into());
    }

    /// The socket, and what is kept of the messages that have arrived on it.
    pub(super) fn into_parts(self) -> (OwnedFd, Inbox) {
        (self.fd, self.inbox)
    }

    fn wait(&self, events: PollFlags, awaited: &'static str) -> Result<(), Refusal> {
        let remaining = Timespec::try_from(self.remaining(awaited)?).ok();
        match poll(&mut [PollFd::new(&self.fd, events)], remaining.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Refusal::system("wait for the control socket")(error.into())),
        }
    }

    fn remaining(&self, awaited: &'static str) -> Result<Duration, Refusal> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() { Err(Refusal::TimedOut { awaited }) } else { Ok(remaining) }
    }
}

/// Sends that this process stops, and shuts the socket down, also for a thread that blocks on a duplicate of `fd`.
pub(crate) fn leave(fd: &OwnedFd) {
    try_send(fd, &Leaving {}.into());
    let _ = rustix::net::shutdown(fd, Shutdown::Both);
}

/// The refusal that follows from a message that is not the awaited one.
pub(crate) fn unexpected(message: Message, awaited: &'static str) -> Refusal {
    match message {
        Message::Abort(Abort { reason }) | Message::Failed(Failed { reason }) => Refusal::Declined { reason },
        Message::Leaving(_) => Refusal::Declined { reason: "it is stopping".to_owned() },
        message => Refusal::OutOfOrder { came: message.name(), awaited },
    }
}

/// As much of a reason as is sent.
pub(crate) fn reason(text: &(impl ToString + ?Sized)) -> String {
    let mut text = text.to_string();
    let end = (0..=LONGEST_REASON.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

fn try_send(fd: &OwnedFd, message: &Message) {
    if let Ok(packet) = message.encode() {
        let _ = scm::send(fd, &packet, &[]);
    }
}
