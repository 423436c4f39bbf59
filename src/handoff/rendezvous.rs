//! Two processes of one service meet at a path: the old one listens there, the new one looks whether somebody does.
//!
//! For services whose next process is started by somebody else: a container engine, a supervisor, a second unit. Only the
//! same user and root may come ([`SO_PEERCRED`](seqpacket::peer_user)). Both may live in namespaces of their own, where the
//! process id of one means nothing to the other: it is told to people, and nobody is ever killed by it.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use super::{
    channel::Channel,
    place::{Locked, Place, check_length},
    protocol::{Abort, Message},
};
use crate::{
    error::{Error, Kind},
    log,
    sys::{path::CreatedPath, scm, seqpacket},
};

/// How long to leave a successor alone that is about to take the path.
const SETTLING: Duration = Duration::from_millis(5);

/// How long to wait where an accept fails for want of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is met at the path.
#[derive(Debug)]
#[must_use]
pub(crate) enum Met {
    /// The process that serves, by its control socket.
    Serving(OwnedFd),
    /// Nobody: this process is the first, and the place is its own.
    Nobody(Place),
}

/// Looks for the serving process at `path`, and becomes it where there is none: of two that come at once, one is met by the
/// other. Blocks, at most until `deadline`.
///
/// # Errors
///
/// Something else stands at the path, a foreign user's process is there, it does not answer in time, or the path cannot be
/// bound.
pub(crate) fn meet(path: &Path, deadline: Instant) -> Result<Met, Error> {
    loop {
        if let Some(control) = visit(path, deadline)? {
            return Ok(Met::Serving(control));
        }
        let locked = Locked::new(path, deadline)?;
        if let Some(control) = visit(path, deadline)? {
            return Ok(Met::Serving(control));
        }
        // A successor takes the path after its predecessor has left it.
        if !locked.is_about_to_change() || Instant::now() >= deadline {
            return locked.bind().map(Met::Nobody);
        }
        drop(locked);
        thread::sleep(SETTLING);
    }
}

/// Connects to whoever listens at `path`; `None` where nobody does, or nobody any more.
pub(crate) fn visit(path: &Path, deadline: Instant) -> Result<Option<OwnedFd>, Error> {
    check_length(path)?;
    let control = match seqpacket::connect(path, deadline) {
        Ok(control) => control,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(source) => return Err(cannot_meet(path, explain(&source), source)),
    };
    let user = seqpacket::peer_user(&control).map_err(|source| cannot_meet(path, "who listens is unknown", source))?;
    let own = seqpacket::own_user();
    if own == 0 || is_welcome(user) {
        return Ok(Some(control));
    }
    let problem = format!("a process of user {user} listens there, and this one is of user {own}; choose another path");
    Err(cannot_meet(path, problem, io::ErrorKind::PermissionDenied.into()))
}

/// The place of a serving process, watched.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    /// Before the socket, see [`CreatedPath`].
    _created: CreatedPath,
    socket: AsyncFd<OwnedFd>,
}

impl Rendezvous {
    /// Registers the socket with the current runtime.
    pub(crate) fn new(place: Place) -> io::Result<Self> {
        let (created, socket) = place.into_parts();
        #[allow(
            deprecated,
            reason = "its unsafe replacement is newer than our oldest tokio, and an OwnedFd keeps its contract"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { _created: created, socket })
    }

    /// The next who comes and may: a new process, or an operator's program. Others are told that they may not.
    ///
    /// # Cancel safety
    ///
    /// Nobody is lost when the future is dropped.
    pub(crate) async fn visitor(&self) -> Channel {
        loop {
            let accepted = self.socket.async_io(Interest::READABLE, |socket| seqpacket::accept(socket)).await;
            match accepted.and_then(admit) {
                Ok(Some(channel)) => return channel,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!(%error, "nobody can be met at the path of the hand-over, trying again");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

fn admit(control: OwnedFd) -> io::Result<Option<Channel>> {
    let user = seqpacket::peer_user(&control)?;
    if is_welcome(user) {
        return Channel::new(control).map(Some);
    }
    log::warn!(user, "a foreign user came to the path of the hand-over and was sent away");
    let reason = format!(
        "the process that serves is of user {}, and takes nobody of user {user}, but its own and root",
        seqpacket::own_user()
    );
    if let Ok(packet) = Message::from(Abort { reason }).encode() {
        let _ = scm::send(&control, &packet, &[]);
    }
    Ok(None)
}

/// The same user, or root.
fn is_welcome(user: u32) -> bool {
    user == 0 || user == seqpacket::own_user()
}

/// Nothing is there, or what a process left that is gone. A file that is no socket refuses too: to bind it is an error.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn explain(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => "it lets only its own user and root in; run this as one of them",
        Some(libc::EPROTOTYPE) => "a socket of another kind listens there; choose another path",
        Some(libc::ENOTDIR) => "a part of the path is a file that is no directory; choose another path",
        _ if error.kind() == io::ErrorKind::TimedOut => "too many wait there already, and it answers none of them",
        _ => "the system refused it",
    }
}

fn cannot_meet(path: &Path, problem: impl Into<String>, source: io::Error) -> Error {
    Kind::Rendezvous { path: path.to_owned(), problem: problem.into(), source }.into()
}

#[cfg(test)]
mod tests;
