//! The old process listens at the path, and lets in the users that it hands over to.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use super::connect::unmapped;
use crate::{
    log,
    sys::{path::CreatedPath, peer, scm, seqpacket},
    wire::{
        channel::Channel,
        peers::Peers,
        protocol::{Abort, Message},
        socket_path::BoundSocketPath,
    },
};

/// How long to wait where an accept fails for want of something.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the log says that foreign users came.
pub(super) const LOG_PAUSE: Duration = Duration::from_secs(10);

/// The path of a serving process, watched.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    /// Before the socket, see [`CreatedPath`].
    created: CreatedPath,
    socket: AsyncFd<OwnedFd>,
    peers: Peers,
    foreigners: Mutex<Foreigners>,
}

/// Foreign users that came, which any user can do as often as it likes.
#[derive(Debug, Default)]
pub(super) struct Foreigners {
    pub(super) logged: Option<Instant>,
    /// Since then.
    pub(super) unlogged: u64,
}

impl Rendezvous {
    /// Registers the socket with the current runtime.
    pub(crate) fn new(path: BoundSocketPath, peers: Peers) -> io::Result<Self> {
        let (created, socket) = path.into_parts();
        #[allow(
            deprecated,
            reason = "its unsafe replacement is newer than our oldest tokio, and an OwnedFd keeps its contract"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { created, socket, peers, foreigners: Mutex::default() })
    }

    /// Whether a successor has put its own socket at the path: no peer finds this one any more.
    pub(crate) fn is_replaced(&self) -> bool {
        !self.created.is_still_ours()
    }

    /// The next peer that may come: a new process, or an operator's program. Others are refused with the reason.
    ///
    /// # Cancel safety
    ///
    /// No peer is lost when the future is dropped.
    pub(crate) async fn accept(&self) -> Channel {
        loop {
            let accepted = self.socket.async_io(Interest::READABLE, |socket| seqpacket::accept(socket)).await;
            match accepted.and_then(|control| self.admit(control)) {
                Ok(Some(channel)) => return channel,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!(%error, "cannot accept at the path of the handoff, trying again");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// `None` for one that may not come, which is sent the reason.
    fn admit(&self, control: OwnedFd) -> io::Result<Option<Channel>> {
        let user = peer::credentials(&control)?.user;
        if self.peers.may_come(user) {
            return Channel::new(control).map(Some);
        }
        self.foreigners.lock().unwrap_or_else(PoisonError::into_inner).note(user, Instant::now());
        let reason = match peer::is_one_user(user) {
            true => format!(
                "the process that serves is of user {own}, and does not hand over to user {user}; run this as user {own}, or name user \
                 {user} there with handoff_peers",
                own = seqpacket::own_user()
            ),
            false => unmapped(user),
        };
        if let Ok(packet) = Message::from(Abort { reason }).encode() {
            let _ = scm::send(&control, &packet, &[]);
        }
        Ok(None)
    }
}

impl Foreigners {
    /// Logs the first, and then how many came, from time to time.
    pub(super) fn note(&mut self, user: u32, now: Instant) {
        if self.logged.is_some_and(|logged| now < logged + LOG_PAUSE) {
            self.unlogged += 1;
            return;
        }
        let before = std::mem::take(&mut self.unlogged);
        self.logged = Some(now);
        log::warn!(user, before, "a foreign user came to the path of the handoff and was sent away");
    }
}
