//! The path of a Unix socket: taken over when stale, removed by the one who created it.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};
use socket2::{Domain, SockAddr, Socket, Type};

/// How often a lock that somebody else has is asked for.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// How long a path that is to be removed waits for its directory: processes of this crate have done with it long before.
const REMOVAL_LIMIT: Duration = Duration::from_millis(100);

/// A socket path that this process, or one before it, created; removed on drop, as long as it is this process's to remove and
/// still the same file.
///
/// Must be dropped before its socket, so it stands above it in every structure. The socket pins the inode: once it is closed,
/// another process may have replaced the file by one that got the same number (ext4 gives the lowest that is free).
#[derive(Debug)]
pub(crate) struct CreatedPath {
    path: PathBuf,
    device: u64,
    inode: u64,
    owned: AtomicBool,
}

impl CreatedPath {
    /// A path that another process created, and which is still that one's to remove.
    pub(crate) fn of_another(path: PathBuf, device: u64, inode: u64) -> Self {
        Self { path, device, inode, owned: AtomicBool::new(false) }
    }

    /// Which file it is: path, device and inode.
    pub(crate) fn identity(&self) -> (&Path, u64, u64) {
        (&self.path, self.device, self.inode)
    }

    /// Whether this process is the one to remove it.
    pub(crate) fn set_owned(&self, owned: bool) {
        self.owned.store(owned, Ordering::Relaxed);
    }

    /// Notes which file now stands at `path`.
    pub(crate) fn note(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let file = fs::symlink_metadata(&path)?;
        Ok(Self { path, device: file.dev(), inode: file.ino(), owned: AtomicBool::new(true) })
    }

    /// Leaves the file where it is.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }

    /// Whether it is still the file that stands there.
    pub(crate) fn is_still_ours(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file.file_type().is_socket() && (file.dev(), file.ino()) == (self.device, self.inode))
    }
}

impl Drop for CreatedPath {
    fn drop(&mut self) {
        if !*self.owned.get_mut() {
            return;
        }
        let _lock = lock_directory_until(&self.path, Instant::now() + REMOVAL_LIMIT);
        if self.is_still_ours() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What stands where a socket is to be bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    /// Nothing.
    Free,
    /// A socket that nobody listens on any more.
    Stale,
    /// A socket that answers, or might.
    Live,
    /// A socket that this user may not connect to, so whether it answers is not known.
    Hidden,
    /// A file of another type.
    NotASocket,
}

/// Looks at `path`, and connects to a socket there to see whether somebody listens.
pub(crate) fn occupant(path: &Path) -> io::Result<Occupant> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Free),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Ok(Occupant::NotASocket);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    Ok(occupant_of(probe.connect(&SockAddr::unix(path)?)))
}

fn occupant_of(connected: io::Result<()>) -> Occupant {
    match connected.map_err(|error| error.kind()) {
        Err(io::ErrorKind::ConnectionRefused) => Occupant::Stale,
        Err(io::ErrorKind::NotFound) => Occupant::Free,
        Err(io::ErrorKind::PermissionDenied) => Occupant::Hidden,
        _ => Occupant::Live,
    }
}

/// What keeps clients from the socket that another process has bound at `path`, as far as this process sees that.
pub(crate) fn obstacle(path: &Path) -> Option<&'static str> {
    match fs::metadata(path) {
        Ok(file) if file.file_type().is_socket() => None,
        Ok(_) => Some("a file that is no socket stands there"),
        // Without its directory, this process may see another file system than the clients: in a container, under RootDirectory=.
        Err(error) if error.kind() == io::ErrorKind::NotFound && directory_of(path).is_dir() => {
            Some("nothing is there")
        }
        Err(_) => None,
    }
}

/// Keeps other processes of this crate from taking over a path in the same directory meanwhile; until the file is dropped.
///
/// Between bind and listen a fresh socket refuses connections just as a stale one does. An error where the directory cannot be opened
/// for reading, or is locked beyond `deadline`: anybody who may read it can lock it, and for as long as he likes. Without the lock two
/// processes that start in the same instant may both take a stale path.
pub(crate) fn lock_directory_until(path: &Path, deadline: Instant) -> io::Result<File> {
    let directory = File::open(directory_of(path))?;
    loop {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Sets the mode that the file of a Unix socket gets at `bind`, less the umask (`unix(7)`).
pub(crate) fn set_socket_mode(socket: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(socket, Mode::from_raw_mode(mode))?)
}

/// Sets the mode of the socket at `path` to exactly `mode`, whatever the umask left of it.
///
/// Through a descriptor of the file itself, so that another file put there meanwhile is never touched.
pub(crate) fn set_path_mode(path: &Path, mode: u32) -> io::Result<()> {
    let file = open_socket_file(path)?;
    let via_proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok(rustix::fs::chmod(via_proc, Mode::from_raw_mode(mode))?)
}

/// Sets the owner of the socket at `path`, without following a link.
pub(crate) fn set_path_owner(path: &Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    std::os::unix::fs::lchown(path, uid, gid)
}

fn open_socket_file(path: &Path) -> io::Result<OwnedFd> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if found == rustix::fs::FileType::Socket {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::AddrInUse, "another file has taken the place of the socket"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_may_not_be_asked_is_neither_live_nor_stale() {
        for (errno, occupant) in [
            (libc::EACCES, Occupant::Hidden),
            (libc::ECONNREFUSED, Occupant::Stale),
            (libc::ENOENT, Occupant::Free),
            (libc::EAGAIN, Occupant::Live),
            (libc::EPROTOTYPE, Occupant::Live),
        ] {
            assert_eq!(occupant_of(Err(io::Error::from_raw_os_error(errno))), occupant);
        }
        assert_eq!(occupant_of(Ok(())), Occupant::Live);
    }
}
