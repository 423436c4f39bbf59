//! The path at which the next process finds the one that serves. One process at a time has its socket there; each generation binds a
//! socket of its own.
//!
//! The new socket is bound beside the path, where it listens already, and renamed over it. So a socket at the path that refuses a
//! connection belongs to a process that has ended, and from one generation to the next there is always a socket at the path. (The name
//! that `getsockname` gives stays the first one, and is not used.) All changes are made under a lock beside the path.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
    time::Instant,
};

use super::peers::Peers;
use crate::{
    error::{Error, Kind},
    listener::unwritable,
    sys::{
        lock::{LockFailure, PathLock, what_is},
        path::{self, CreatedPath, PathState},
        seqpacket,
    },
};

/// The longest path that `sockaddr_un` takes without its closing NUL (`unix(7)`).
const LONGEST_PATH: usize = 107;

/// What the name of a staged socket ends with, until it is renamed.
const STAGED: &str = ".new";

/// A socket that listens at the path.
#[derive(Debug)]
pub(crate) struct BoundSocketPath {
    /// Declared before the socket, see [`CreatedPath`]. It is removed at the end, unless a successor has its socket there.
    created: CreatedPath,
    socket: OwnedFd,
}

/// A socket that listens beside the path: everything that can fail is done before the path changes.
#[derive(Debug)]
#[must_use]
pub(crate) struct StagedSocketPath {
    /// Declared before the socket, see [`CreatedPath`].
    created: CreatedPath,
    socket: OwnedFd,
    staged: PathBuf,
    path: PathBuf,
    peers: Peers,
}

/// The path while this process holds its lock.
#[derive(Debug)]
pub(crate) struct LockedSocketPath<'a> {
    path: &'a Path,
    peers: &'a Peers,
    /// No [`CreatedPath`] of the path may be dropped while it is held, as that takes the same lock.
    _lock: PathLock,
}

impl BoundSocketPath {
    /// Makes a socket that is to take the path from the predecessor, which notices nothing yet.
    ///
    /// # Errors
    ///
    /// Another kind of file is there, another process is about to take the path, or the system refuses.
    pub(crate) fn stage(path: &Path, peers: &Peers, deadline: Instant) -> Result<StagedSocketPath, Error> {
        LockedSocketPath::new(path, peers, deadline)?.stage()
    }

    pub(crate) fn into_parts(self) -> (CreatedPath, OwnedFd) {
        (self.created, self.socket)
    }
}

impl StagedSocketPath {
    /// Takes the path. The predecessor still listens, on a socket that no process finds any more.
    ///
    /// # Errors
    ///
    /// As [`BoundSocketPath::stage`]. The predecessor still has the path.
    pub(crate) fn rename_into_place(self, deadline: Instant) -> Result<BoundSocketPath, Error> {
        let locked = LockedSocketPath::new(&self.path, &self.peers, deadline)?;
        let renamed = locked.rename_into_place(&self);
        drop(locked);
        renamed.map(|created| self.into_bound(created))
    }

    fn into_bound(self, created: CreatedPath) -> BoundSocketPath {
        self.created.set_owned(false);
        BoundSocketPath { created, socket: self.socket }
    }
}

impl<'a> LockedSocketPath<'a> {
    pub(crate) fn new(path: &'a Path, peers: &'a Peers, deadline: Instant) -> Result<Self, Error> {
        check_length(path)?;
        check_directory(path, peers)?;
        let lock = PathLock::take(path, |user| peers.may_own(user), deadline);
        let lock = lock.map_err(|failure| match failure {
            LockFailure::InTheWay(what) => in_the_way(path, &what),
            LockFailure::Held(lock) => {
                let problem = format!("another process holds {} locked (flock(2)); end it", lock.display());
                cannot_bind(path, problem, io::ErrorKind::TimedOut.into())
            }
            LockFailure::System(source) => refused(path, source),
        })?;
        Ok(Self { path, peers, _lock: lock })
    }

    /// Whether a successor that listens beside the path is about to take it.
    pub(crate) fn is_about_to_change(&self) -> bool {
        let staged = staged(self.path);
        let is_ours = fs::symlink_metadata(&staged).is_ok_and(|found| self.peers.may_own(found.uid()));
        is_ours && matches!(path::path_state(&staged), Ok(PathState::Live | PathState::Hidden))
    }

    /// Puts a new socket at the path, in place of the one that may be there.
    pub(crate) fn bind(self) -> Result<BoundSocketPath, Error> {
        let staged = self.stage()?;
        let renamed = self.rename_into_place(&staged);
        drop(self);
        renamed.map(|created| staged.into_bound(created))
    }

    fn stage(&self) -> Result<StagedSocketPath, Error> {
        self.expect_socket_or_nothing()?;
        let staged = staged(self.path);
        self.remove_stale(&staged)?;
        let bound = seqpacket::listen(&staged, !self.peers.are_none())
            .and_then(|socket| Ok((CreatedPath::note(&staged)?, socket)));
        match bound {
            Ok((created, socket)) => {
                let (path, peers) = (self.path.to_owned(), self.peers.clone());
                Ok(StagedSocketPath { created, socket, staged, path, peers })
            }
            Err(source) => {
                let _ = fs::remove_file(&staged);
                Err(refused(self.path, source))
            }
        }
    }

    fn rename_into_place(&self, staged: &StagedSocketPath) -> Result<CreatedPath, Error> {
        self.expect_socket_or_nothing()?;
        let renamed = fs::rename(&staged.staged, self.path).and_then(|()| {
            let created = CreatedPath::note(self.path)?;
            if created.is_same_file(&staged.created) {
                return Ok(created);
            }
            created.set_owned(false);
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another file has taken the place of the socket"))
        });
        renamed.map_err(|source| refused(self.path, source))
    }

    /// Removes the socket of a process that was killed before it renamed it.
    fn remove_stale(&self, staged: &Path) -> Result<(), Error> {
        let found = match fs::symlink_metadata(staged) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(refused(self.path, source)),
        };
        if !self.peers.may_own(found.uid()) {
            return Err(in_the_way(self.path, &format!("{} belongs to user {}", staged.display(), found.uid())));
        }
        match path::path_state(staged) {
            Ok(PathState::Free) => Ok(()),
            Ok(PathState::Stale) => fs::remove_file(staged).map_err(|source| refused(self.path, source)),
            Ok(PathState::Live | PathState::Hidden) => {
                let problem = "another process is about to take this path over; wait for it, or end it";
                Err(cannot_bind(self.path, problem, io::ErrorKind::AddrInUse.into()))
            }
            Ok(PathState::NotASocket) => {
                let what = format!("{} is {}", staged.display(), what_is(&found));
                Err(in_the_way(self.path, &what))
            }
            Err(source) => Err(refused(self.path, source)),
        }
    }

    fn expect_socket_or_nothing(&self) -> Result<(), Error> {
        match fs::symlink_metadata(self.path) {
            Ok(file) if file.file_type().is_socket() => Ok(()),
            Ok(_) => {
                let problem = path::no_socket(self.path);
                Err(cannot_bind(self.path, problem, io::ErrorKind::AddrInUse.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(cannot_bind(self.path, "the system refused it", source)),
        }
    }
}

/// An error if this process is root's and another user can put a file at the path. The process that takes over serves with root's
/// rights, and so does what it takes over from.
pub(crate) fn check_directory(path: &Path, peers: &Peers) -> Result<(), Error> {
    if seqpacket::own_user() != 0 {
        return Ok(());
    }
    let problem = match path::weak_point(path, |user| peers.may_own(user)) {
        Ok(None) => return Ok(()),
        Ok(Some(problem)) => problem,
        Err(source) => return Err(refused(path, source)),
    };
    let problem = format!(
        "{problem}, and this process runs as root; choose a path in a directory that root alone can write (RuntimeDirectory= in \
         systemd.exec(5)), or name the user with handoff_peers if root is to take over from its processes"
    );
    Err(cannot_bind(path, problem, io::ErrorKind::PermissionDenied.into()))
}

fn refused(path: &Path, source: io::Error) -> Error {
    let remedy = match source.kind() {
        io::ErrorKind::NotFound => "no such directory; create it first (RuntimeDirectory= in systemd.exec(5))",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => &unwritable(path),
        io::ErrorKind::StorageFull => "the file system is full; make room, or choose a path below /run",
        io::ErrorKind::NotADirectory => "a part of the path is a file that is no directory; choose another path",
        _ => "the system refused it",
    };
    cannot_bind(path, remedy, source)
}

fn in_the_way(path: &Path, what: &str) -> Error {
    let problem = format!(
        "{what}, and is in the way; remove it, and use a directory that only this service can write (RuntimeDirectory= in \
         systemd.exec(5))"
    );
    cannot_bind(path, problem, io::ErrorKind::AddrInUse.into())
}

/// An error for a path that no socket can have. The name of the staged socket is the longer one.
pub(crate) fn check_length(path: &Path) -> Result<(), Error> {
    let most = LONGEST_PATH - STAGED.len();
    if path.file_name().is_none() {
        let remedy = "it names no file; add a name, as in /run/app/handoff.sock";
        return Err(cannot_bind(path, remedy, io::ErrorKind::InvalidInput.into()));
    }
    if path.as_os_str().as_bytes().len() <= most {
        return Ok(());
    }
    let remedy = format!("the path has more than {most} bytes, choose a shorter one (unix(7))");
    Err(cannot_bind(path, remedy, io::ErrorKind::InvalidInput.into()))
}

fn staged(path: &Path) -> PathBuf {
    let mut staged = OsString::from(path);
    staged.push(STAGED);
    staged.into()
}

fn cannot_bind(path: &Path, remedy: impl Into<String>, source: io::Error) -> Error {
    Kind::Bind { address: format!("unix:{}", path.display()), remedy: remedy.into(), source }.into()
}
