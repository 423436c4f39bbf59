//! A new process looks whether one serves at the path.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Kind},
    sys::{path::identity, peer, seqpacket},
    wire::{
        peers::Peers,
        socket_path::{BoundSocketPath, LockedSocketPath, check_directory, check_length},
    },
};

/// How long to leave a successor alone that is about to take the path.
const SETTLING: Duration = Duration::from_millis(5);

/// What a new process has at the path.
#[derive(Debug)]
#[must_use]
pub(crate) enum ConnectedOrBound {
    /// A control socket to the process that serves.
    Connected(OwnedFd),
    /// The socket at the path: this process is the first.
    Bound(BoundSocketPath),
}

/// Looks for the serving process at `path`, and becomes it where there is none: of two that come at once, one is met by the
/// other. Blocks, at most until `deadline`.
///
/// # Errors
///
/// Something else stands at the path, a foreign user's process is there, it does not answer in time, or the path cannot be
/// bound.
pub(crate) fn connect_or_bind(path: &Path, peers: &Peers, deadline: Instant) -> Result<ConnectedOrBound, Error> {
    loop {
        if let Some(control) = connect_to_predecessor(path, peers, deadline)? {
            return Ok(ConnectedOrBound::Connected(control));
        }
        let locked = LockedSocketPath::new(path, peers, deadline)?;
        if let Some(control) = connect_to_predecessor(path, peers, deadline)? {
            return Ok(ConnectedOrBound::Connected(control));
        }
        // A successor takes the path after its predecessor has left it.
        if !locked.is_about_to_change() || Instant::now() >= deadline {
            return locked.bind().map(ConnectedOrBound::Bound);
        }
        drop(locked);
        thread::sleep(SETTLING);
    }
}

/// Connects to the process that serves at `path`, to take over from it.
fn connect_to_predecessor(path: &Path, peers: &Peers, deadline: Instant) -> Result<Option<OwnedFd>, Error> {
    let Some(control) = connect(path, deadline)? else { return Ok(None) };
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
pub(crate) fn connect_to_ask(path: &Path, deadline: Instant) -> Result<Option<OwnedFd>, Error> {
    let Some(control) = connect(path, deadline)? else { return Ok(None) };
    let (user, own) = (user_of(&control, path)?, seqpacket::own_user());
    if own == 0 || user == 0 || (user == own && peer::is_one_user(user)) {
        return Ok(Some(control));
    }
    let problem =
        format!("a process of user {user} listens there, and this one is of user {own}; run this as user {user}");
    Err(cannot_meet(path, problem, io::ErrorKind::PermissionDenied.into()))
}

/// Connects to the process that listens at `path`; `None` where there is none, or none any more.
pub(super) fn connect(path: &Path, deadline: Instant) -> Result<Option<OwnedFd>, Error> {
    check_length(path)?;
    loop {
        let before = identity(path);
        match seqpacket::connect(path, deadline) {
            Ok(control) => return Ok(Some(control)),
            // A successor has taken the path since this process looked there, and the socket that it found is closed.
            Err(error) if is_absent(&error) && before != identity(path) => {}
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => return Err(cannot_meet(path, explain(&source), source)),
        }
    }
}

fn user_of(control: &OwnedFd, path: &Path) -> Result<u32, Error> {
    let peer = peer::credentials(control).map_err(|source| cannot_meet(path, "who listens is unknown", source))?;
    Ok(peer.user)
}

pub(super) fn unmapped(user: u32) -> String {
    format!(
        "the kernel shows the other process as user {user}, which stands for every user that this user namespace does not map \
         (user_namespaces(7)); run both as a user that is mapped"
    )
}

/// Nothing is there, or what a process left that is gone. A file that is no socket refuses too: to bind it is an error.
fn is_absent(error: &io::Error) -> bool {
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
