//! The path at which the serving process can be met: bound by one process at a time, and by each generation anew.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileTypeExt},
    },
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    error::{Error, Kind},
    listener::unwritable,
    sys::{
        path::{self, CreatedPath, Occupant},
        seqpacket,
    },
};

/// The longest path that `sockaddr_un` takes without its closing NUL (`unix(7)`).
const LONGEST_PATH: usize = 107;

/// What the name of a fresh socket ends with, until it takes the place of the one before.
const FRESH: &str = ".new";

/// A socket that listens at the path.
///
/// It is bound beside the path and renamed over it, when it listens already: so whoever finds a socket at the path that refuses
/// knows that its owner is gone, and there is no moment without one from one generation to the next. (A name that
/// `getsockname` tells, which stays the first one, is of no use here.) Changes are made under a lock of the directory.
#[derive(Debug)]
pub(crate) struct Place {
    /// Before the socket, see [`CreatedPath`]. It is removed at the end unless a successor has bound the path.
    created: CreatedPath,
    socket: OwnedFd,
}

/// A socket that listens beside the path, so that all that could fail has been done before the path changes.
#[derive(Debug)]
#[must_use]
pub(crate) struct FreshPlace {
    /// Before the socket, see [`CreatedPath`].
    created: CreatedPath,
    socket: OwnedFd,
    fresh: PathBuf,
    path: PathBuf,
}

/// What stands at the path, seen by its lock's holder.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    path: &'a Path,
    /// Holds the lock. While it does, no [`CreatedPath`] may be dropped: it takes the same lock.
    _directory: File,
}

impl Place {
    /// Makes a socket that is to take the path from the predecessor, who notices nothing yet.
    ///
    /// # Errors
    ///
    /// Another kind of file stands there, another process is about to take the path, or the system refuses.
    pub(crate) fn prepare(path: &Path, deadline: Instant) -> Result<FreshPlace, Error> {
        Locked::new(path, deadline)?.prepare()
    }

    pub(super) fn into_parts(self) -> (CreatedPath, OwnedFd) {
        (self.created, self.socket)
    }
}

impl FreshPlace {
    /// Takes the path: the predecessor goes on listening, on a socket that nobody finds any more.
    ///
    /// # Errors
    ///
    /// As [`Place::prepare`]: the predecessor still has the path.
    pub(crate) fn settle(self, deadline: Instant) -> Result<Place, Error> {
        let locked = Locked::new(&self.path, deadline)?;
        let settled = locked.settle(&self);
        drop(locked);
        settled.map(|created| self.into_place(created))
    }

    fn into_place(self, created: CreatedPath) -> Place {
        self.created.set_owned(false);
        Place { created, socket: self.socket }
    }
}

impl<'a> Locked<'a> {
    pub(super) fn new(path: &'a Path, deadline: Instant) -> Result<Self, Error> {
        check_length(path)?;
        match path::lock_directory_until(path, deadline) {
            Ok(directory) => Ok(Self { path, _directory: directory }),
            Err(source) => {
                let remedy = match source.kind() {
                    io::ErrorKind::NotFound => {
                        "no such directory; create it first (RuntimeDirectory= in systemd.exec(5))"
                    }
                    io::ErrorKind::TimedOut => "another process keeps its directory locked (flock(2)); end it",
                    io::ErrorKind::PermissionDenied => "its directory must be readable and writable for this process",
                    _ => "its directory cannot be locked",
                };
                Err(cannot_bind(path, remedy, source))
            }
        }
    }

    /// Whether a successor that listens beside the path is about to take it.
    pub(super) fn is_about_to_change(&self) -> bool {
        matches!(path::occupant(&fresh(self.path)), Ok(Occupant::Live | Occupant::Hidden))
    }

    /// Puts a fresh socket at the path, whatever socket is there.
    pub(super) fn bind(self) -> Result<Place, Error> {
        let fresh = self.prepare()?;
        let settled = self.settle(&fresh);
        drop(self);
        settled.map(|created| fresh.into_place(created))
    }

    fn prepare(&self) -> Result<FreshPlace, Error> {
        self.expect_socket_or_nothing()?;
        let fresh = fresh(self.path);
        self.vacate(&fresh)?;
        let bound = seqpacket::listen(&fresh).and_then(|socket| Ok((CreatedPath::note(&fresh)?, socket)));
        match bound {
            Ok((created, socket)) => Ok(FreshPlace { created, socket, fresh, path: self.path.to_owned() }),
            Err(source) => {
                let _ = fs::remove_file(&fresh);
                Err(self.refused(source))
            }
        }
    }

    fn settle(&self, place: &FreshPlace) -> Result<CreatedPath, Error> {
        self.expect_socket_or_nothing()?;
        let settled = fs::rename(&place.fresh, self.path).and_then(|()| CreatedPath::note(self.path));
        settled.map_err(|source| self.refused(source))
    }

    /// Removes what a process left that was killed before it settled.
    fn vacate(&self, fresh: &Path) -> Result<(), Error> {
        match path::occupant(fresh) {
            Ok(Occupant::Free) => Ok(()),
            Ok(Occupant::Stale) => fs::remove_file(fresh).map_err(|source| self.refused(source)),
            Ok(Occupant::Live | Occupant::Hidden) => {
                let problem = "another process is about to take this path over; wait for it, or end it";
                Err(cannot_bind(self.path, problem, io::ErrorKind::AddrInUse.into()))
            }
            Ok(Occupant::NotASocket) => {
                let problem = format!("{} is in the way and no socket; remove it", fresh.display());
                Err(cannot_bind(self.path, problem, io::ErrorKind::AddrInUse.into()))
            }
            Err(source) => Err(self.refused(source)),
        }
    }

    fn refused(&self, source: io::Error) -> Error {
        let remedy = match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => unwritable(self.path),
            io::ErrorKind::StorageFull => "the file system is full; make room, or choose a path below /run".to_owned(),
            _ => "the system refused it".to_owned(),
        };
        cannot_bind(self.path, remedy, source)
    }

    fn expect_socket_or_nothing(&self) -> Result<(), Error> {
        let problem = "a file that is no socket stands there; remove it, or choose another path";
        match fs::symlink_metadata(self.path) {
            Ok(file) if file.file_type().is_socket() => Ok(()),
            Ok(_) => Err(cannot_bind(self.path, problem, io::ErrorKind::AddrInUse.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(cannot_bind(self.path, "the system refused it", source)),
        }
    }
}

/// An error for a path that no socket can have. The fresh name is the longer one.
pub(super) fn check_length(path: &Path) -> Result<(), Error> {
    let most = LONGEST_PATH - FRESH.len();
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

fn fresh(path: &Path) -> PathBuf {
    let mut fresh = OsString::from(path);
    fresh.push(FRESH);
    fresh.into()
}

fn cannot_bind(path: &Path, remedy: impl Into<String>, source: io::Error) -> Error {
    Kind::Bind { address: format!("unix:{}", path.display()), remedy: remedy.into(), source }.into()
}
