//! Two processes of one service meet at a path: the old one listens there, the new one looks whether somebody does.
//!
//! For services whose next process is started by somebody else: a container engine, a supervisor, a second unit. Each side asks the
//! kernel which user the other one is ([`SO_PEERCRED`](peer::credentials)), and goes on with those that [`Peers`] names. Both may
//! live in namespaces of their own, where the process id of one means nothing to the other: it is for logs, and no process is killed
//! by it.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use crate::{
    error::{Error, Kind},
    log,
    sys::{
        path::{CreatedPath, identity},
        peer, scm, seqpacket,
    },
    wire::{
        channel::Channel,
        peers::Peers,
        protocol::{Abort, Message},
        socket_path::{BoundSocketPath, LockedSocketPath, check_directory, check_length},
    },
};

/// How long to leave a successor alone that is about to take the path.
const SETTLING: Duration = Duration::from_millis(5);

/// How long to wait where an accept fails for want of something.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the log says that foreign users came.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// Who is met at the path.
#[derive(Debug)]
#[must_use]
pub(crate) enum Met {
    /// The process that serves, by its control socket.
    Serving(OwnedFd),
    /// Nobody: this process is the first, and the place is its own.
    Nobody(BoundSocketPath),
}

/// Looks for the serving process at `path`, and becomes it where there is none: of two that come at once, one is met by the
/// other. Blocks, at most until `deadline`.
///
/// # Errors
///
/// Something else stands at the path, a foreign user's process is there, it does not answer in time, or the path cannot be
/// bound.
pub(crate) fn meet(path: &Path, peers: &Peers, deadline: Instant) -> Result<Met, Error> {
    loop {
        if let Some(control) = visit_predecessor(path, peers, deadline)? {
            return Ok(Met::Serving(control));
        }
        let locked = LockedSocketPath::new(path, peers, deadline)?;
        if let Some(control) = visit_predecessor(path, peers, deadline)? {
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

/// Connects to the process that serves at `path`, to take over from it.
fn visit_predecessor(path: &Path, peers: &Peers, deadline: Instant) -> Result<Option<OwnedFd>, Error> {
    let Some(control) = visit(path, deadline)? else { return Ok(None) };
    let user = user_of(&control, path)?;
    if !peer::is_one_user(user) {
        return Err(cannot_meet(path, unmapped(user), io::ErrorKind::PermissionDenied.into()));
    }
    if !peers.may_serve(user) {
        let own = seqpacket::own_user();
        let problem = format!(
            "a process of user {user} listens there, and this one is of user {own}; if it is to take over from that user, name it \
             with handoff_peers([{user}]), else remove the socket and choose a path in a directory that user {own} alone can write"
        );
        return Err(cannot_meet(path, problem, io::ErrorKind::PermissionDenied.into()));
    }
    check_directory(path, peers)?;
    Ok(Some(control))
}

/// Connects to the process that serves at `path`, to ask it for a handoff and read what became of it. Root may ask any user's: it
/// believes nothing but a process id and a reason.
pub(crate) fn visit_to_ask(path: &Path, deadline: Instant) -> Result<Option<OwnedFd>, Error> {
    let Some(control) = visit(path, deadline)? else { return Ok(None) };
    let (user, own) = (user_of(&control, path)?, seqpacket::own_user());
    if own == 0 || user == 0 || (user == own && peer::is_one_user(user)) {
        return Ok(Some(control));
    }
    let problem =
        format!("a process of user {user} listens there, and this one is of user {own}; run this as user {user}");
    Err(cannot_meet(path, problem, io::ErrorKind::PermissionDenied.into()))
}

/// Connects to the process that listens at `path`; `None` where there is none, or none any more.
fn visit(path: &Path, deadline: Instant) -> Result<Option<OwnedFd>, Error> {
    check_length(path)?;
    loop {
        let before = identity(path);
        match seqpacket::connect(path, deadline) {
            Ok(control) => return Ok(Some(control)),
            // A successor has taken the path since this process looked there, and the socket that it found is closed.
            Err(error) if is_nobody(&error) && before != identity(path) => {}
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(source) => return Err(cannot_meet(path, explain(&source), source)),
        }
    }
}

fn user_of(control: &OwnedFd, path: &Path) -> Result<u32, Error> {
    let peer = peer::credentials(control).map_err(|source| cannot_meet(path, "who listens is unknown", source))?;
    Ok(peer.user)
}

/// The place of a serving process, watched.
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
struct Foreigners {
    logged: Option<Instant>,
    /// Since then.
    unlogged: u64,
}

impl Rendezvous {
    /// Registers the socket with the current runtime.
    pub(crate) fn new(place: BoundSocketPath, peers: Peers) -> io::Result<Self> {
        let (created, socket) = place.into_parts();
        #[allow(
            deprecated,
            reason = "its unsafe replacement is newer than our oldest tokio, and an OwnedFd keeps its contract"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { created, socket, peers, foreigners: Mutex::default() })
    }

    /// Whether a successor has put its own socket at the path: no visitor finds this one any more.
    pub(crate) fn is_replaced(&self) -> bool {
        !self.created.is_still_ours()
    }

    /// The next who comes and may: a new process, or an operator's program. Others are told that they may not.
    ///
    /// # Cancel safety
    ///
    /// Nobody is lost when the future is dropped.
    pub(crate) async fn visitor(&self) -> Channel {
        loop {
            let accepted = self.socket.async_io(Interest::READABLE, |socket| seqpacket::accept(socket)).await;
            match accepted.and_then(|control| self.admit(control)) {
                Ok(Some(channel)) => return channel,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!(%error, "nobody can be met at the path of the handoff, trying again");
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
    fn note(&mut self, user: u32, now: Instant) {
        if self.logged.is_some_and(|logged| now < logged + LOG_PAUSE) {
            self.unlogged += 1;
            return;
        }
        let before = std::mem::take(&mut self.unlogged);
        self.logged = Some(now);
        log::warn!(user, before, "a foreign user came to the path of the handoff and was sent away");
    }
}

fn unmapped(user: u32) -> String {
    format!(
        "the kernel shows the other process as user {user}, which stands for every user that this user namespace does not map \
         (user_namespaces(7)); run both as a user that is mapped"
    )
}

/// Nothing is there, or what a process left that is gone. A file that is no socket refuses too: to bind it is an error.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn explain(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "it lets only its own user and root in; run this as one of them, or name this user there with handoff_peers"
        }
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
