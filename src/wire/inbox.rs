//! What arrives on a control socket: messages, and descriptors of messages that are not known here.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use super::{
    error::Refusal,
    packet::{LONGEST_PACKET, Malformed},
    protocol::Message,
};
use crate::{
    log,
    sys::scm::{self, MOST_FDS},
};

/// The most descriptors that are kept of messages that are not known: those of one full message.
const MOST_KEPT: usize = MOST_FDS;

/// One message, with its descriptors.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) message: Message,
    /// Closed on drop, so a receiver that expects none ignores them.
    pub(crate) fds: Vec<OwnedFd>,
    /// Descriptors are missing, because the table of this process is full.
    pub(crate) lacks_fds: bool,
}

/// The receiving part of a control socket.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: Box<[u8]>,
    /// The descriptors of messages that are not known here. This process does not know what it means to the other one that they are closed,
    /// so they stay open as long as the control socket.
    kept: Vec<OwnedFd>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; LONGEST_PACKET].into_boxed_slice(), kept: Vec::new() }
    }

    /// One packet; `None` for a kind that this version does not know.
    pub(super) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        awaited: &'static str,
    ) -> io::Result<Result<Option<Envelope>, Refusal>> {
        let received = scm::receive(fd, &mut self.buffer)?;
        if received.len == 0 {
            return Ok(Err(Refusal::Gone { awaited, left_unread: received.left_unread }));
        }
        if received.is_truncated {
            return Ok(Err(Malformed::Long.into()));
        }
        let message = match Message::decode(&self.buffer[..received.len]) {
            Ok(Some(message)) => message,
            Ok(None) => {
                log::trace!(bytes = received.len, "the other process sent a message of a kind that is not known here");
                self.keep(received.fds);
                return Ok(Ok(None));
            }
            Err(malformed) => return Ok(Err(malformed.into())),
        };
        Ok(Ok(Some(Envelope { message, fds: received.fds, lacks_fds: received.lacks_fds })))
    }

    fn keep(&mut self, fds: Vec<OwnedFd>) {
        let (count, room) = (fds.len(), MOST_KEPT - self.kept.len());
        self.kept.extend(fds.into_iter().take(room));
        if count > room {
            log::warn!(
                descriptors = count - room,
                "the other process sent too many descriptors in messages that are not known here, closing them"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_of_messages_that_are_not_known_are_kept_up_to_a_limit() {
        let (own, other) = scm::pair().unwrap();
        let mut inbox = Inbox::new();
        for (sent, kept) in [(100, 100), (0, 100), (153, 253), (1, 253), (253, 253)] {
            scm::send(&other, &[0xff, 0xff, 1], &vec![own.as_fd(); sent]).unwrap();
            assert!(matches!(inbox.read(own.as_fd(), "a message"), Ok(Ok(None))));
            assert_eq!(inbox.kept.len(), kept);
        }
    }
}
