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
    sys::{
        path::{self, CreatedPath},
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

/// What stands at the path, seen by its lock's holder.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    path: &'a Path,
    /// Holds the lock.
    _directory: File,
}

impl Place {
    /// Binds the path in place of the predecessor, which goes on listening on a socket that nobody finds any more.
    ///
    /// # Errors
    ///
    /// Another kind of file stands there, or the system refuses: the predecessor still has the path.
    pub(crate) fn take_over(path: &Path, deadline: Instant) -> Result<Self, Error> {
        Locked::new(path, deadline)?.bind()
    }

    pub(super) fn into_parts(self) -> (CreatedPath, OwnedFd) {
        (self.created, self.socket)
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

    /// Puts a fresh socket at the path, whatever socket is there.
    pub(super) fn bind(&self) -> Result<Place, Error> {
        self.expect_socket_or_nothing()?;
        let fresh = fresh(self.path);
        let bound = listen(&fresh).and_then(|socket| {
            fs::rename(&fresh, self.path)?;
            Ok(Place { created: CreatedPath::note(self.path)?, socket })
        });
        bound.map_err(|source| {
            let _ = fs::remove_file(&fresh);
            let remedy = match source.kind() {
                io::ErrorKind::PermissionDenied => "a path takes the right to write its directory",
                io::ErrorKind::StorageFull => "the file system is full; make room, or choose a path under /run",
                io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only; choose a path under /run",
                _ => "the system refused it",
            };
            cannot_bind(self.path, remedy, source)
        })
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

/// Whoever was killed in the middle has left a file: the lock says that nobody is there any more.
fn listen(fresh: &Path) -> io::Result<OwnedFd> {
    match seqpacket::listen(fresh) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            fs::remove_file(fresh)?;
            seqpacket::listen(fresh)
        }
        listening => listening,
    }
}

fn fresh(path: &Path) -> PathBuf {
    let mut fresh = OsString::from(path);
    fresh.push(FRESH);
    fresh.into()
}

fn cannot_bind(path: &Path, remedy: impl Into<String>, source: io::Error) -> Error {
    Kind::Bind { address: format!("unix:{}", path.display()), remedy: remedy.into(), source }.into()
}
