//! The path of a Unix socket: taken over when stale, removed by the process that created it.
//!
//! The kernel never removes the file of a Unix socket. So the service does, when it ends and no successor has the
//! socket. It must remove its own file and no other. The path is not enough for that: another process may have put a
//! socket there meanwhile. So device and inode are compared, under a lock on the path, in the directory that the path
//! led to when the file was created.
//!
//! `owned` is `Relaxed`: it is a value of its own, and publishes no other data. It is read when the value is dropped,
//! which takes `&mut self`: whatever gave the last owner its exclusive access has put every earlier write before that
//! read.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, Mode, OFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use super::lock::PathLock;

/// How long a path that is to be removed waits for its lock: processes of this crate have done with it long before.
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
    /// Which directory it was in, device and inode; `None` where that is not known, and the path then stays. What leads there may
    /// be replaced by another user, and lead to a directory that only this process may write.
    directory: Option<(u64, u64)>,
    owned: AtomicBool,
}

impl CreatedPath {
    /// A path that another process created, and which is still that one's to remove.
    pub(crate) fn of_another(path: PathBuf, device: u64, inode: u64) -> Self {
        let directory = identity_of_directory(&path);
        Self { path, device, inode, directory, owned: AtomicBool::new(false) }
    }

    /// Which file it is: path, device and inode.
    pub(crate) fn identity(&self) -> (&Path, u64, u64) {
        (&self.path, self.device, self.inode)
    }

    /// Whether both are the same file, under whatever name.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether this process is the one to remove it.
    pub(crate) fn set_owned(&self, owned: bool) {
        self.owned.store(owned, Ordering::Relaxed);
    }

    /// Notes which file now stands at `path`.
    pub(crate) fn note(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let file = fs::symlink_metadata(&path)?;
        let directory = identity_of_directory(&path);
        Ok(Self { path, device: file.dev(), inode: file.ino(), directory, owned: AtomicBool::new(true) })
    }

    /// Leaves the file where it is.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }

    /// Whether it is still the file that stands there.
    pub(crate) fn is_still_ours(&self) -> bool {
        self.directory_if_ours().is_some()
    }

    /// The directory, if the file still stands in it.
    fn directory_if_ours(&self) -> Option<File> {
        const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let directory =
            rustix::fs::open(directory_of(&self.path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let directory = File::from(directory);
        let found = directory.metadata().ok()?;
        if self.directory != Some((found.dev(), found.ino())) {
            return None;
        }
        let file = File::from(rustix::fs::openat(&directory, self.path.file_name()?, PLACE, Mode::empty()).ok()?);
        let file = file.metadata().ok()?;
        let is_same = file.file_type().is_socket() && (file.dev(), file.ino()) == (self.device, self.inode);
        is_same.then_some(directory)
    }
}

impl Drop for CreatedPath {
    fn drop(&mut self) {
        if !*self.owned.get_mut() {
            return;
        }
        let _lock = PathLock::take(&self.path, is_own_user, Instant::now() + REMOVAL_LIMIT);
        if let (Some(directory), Some(name)) = (self.directory_if_ours(), self.path.file_name()) {
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
    }
}

/// What stands where a socket is to be bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PathState {
    /// Nothing.
    Free,
    /// A socket that no process listens on any more.
    Stale,
    /// A socket that answers, or might.
    Live,
    /// A socket that this user may not connect to, so whether it answers is not known.
    Hidden,
    /// A file of another type.
    NotASocket,
}

/// Looks at `path`, and connects to a socket there to see whether a process listens.
pub(crate) fn path_state(path: &Path) -> io::Result<PathState> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PathState::Free),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Ok(PathState::NotASocket);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    Ok(state_by_connect(probe.connect(&SockAddr::unix(path)?)))
}

fn state_by_connect(connected: io::Result<()>) -> PathState {
    match connected.map_err(|error| error.kind()) {
        Err(io::ErrorKind::ConnectionRefused) => PathState::Stale,
        Err(io::ErrorKind::NotFound) => PathState::Free,
        Err(io::ErrorKind::PermissionDenied) => PathState::Hidden,
        _ => PathState::Live,
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

/// Whether a file of that user can be trusted as one of this process's own: the same user, and root.
pub(crate) fn is_own_user(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// Whether `user` may remove a file from the directory of `path`, as far as owner and mode of the directory tell. This process's
/// own user may do what this process may.
pub(crate) fn may_remove(user: u32, path: &Path) -> bool {
    /// The owner may write and search.
    const OWNER_CHANGES: u32 = 0o300;
    if is_own_user(user) {
        return true;
    }
    let directory = fs::metadata(directory_of(path));
    directory.is_ok_and(|found| found.uid() == user && found.mode() & OWNER_CHANGES == OWNER_CHANGES)
}

/// Where another user than those that `trusted` names could put something of its own at `path`, or before it: the directory and
/// why, in words. `None` where no other user can.
///
/// The directory itself must not be writable by others, be it sticky or not: where the sticky bit is set, anybody may be first at a
/// name. Above it the sticky bit is enough, as what stands there is not to be replaced (`inode(7)`).
pub(crate) fn weak_point(path: &Path, trusted: impl Fn(u32) -> bool) -> io::Result<Option<String>> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let directory = std::path::absolute(directory_of(path))?;
    // What leads there, as it is written and as it is.
    for chain in [&directory, &fs::canonicalize(&directory)?] {
        for (height, part) in chain.ancestors().enumerate() {
            let (link, found) = (fs::symlink_metadata(part)?, fs::metadata(part)?);
            let strangers = [&link, &found].map(MetadataExt::uid).into_iter().find(|user| !trusted(*user));
            let is_open = found.mode() & WRITABLE_BY_OTHERS != 0 && (height == 0 || found.mode() & STICKY == 0);
            let name = part.display();
            match strangers {
                Some(user) => return Ok(Some(format!("{name} belongs to user {user}"))),
                None if is_open => {
                    let mode = found.mode() & 0o7777;
                    return Ok(Some(format!("{name} can be written by other users (mode {mode:04o})")));
                }
                None => {}
            }
        }
    }
    Ok(None)
}

/// Which file stands at `path`: device and inode.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// What to do about a file at `path` that is no socket. A symbolic link is none, whatever it leads to: to bind does not follow it, and
/// one that leads nowhere is not seen by who looks for the file.
pub(crate) fn no_socket(path: &Path) -> String {
    match (fs::read_link(path), fs::metadata(path)) {
        (Err(_), _) => "a file that is no socket stands there; remove it, or choose another path".to_owned(),
        (Ok(target), Ok(_)) => {
            format!("a symbolic link to {} stands there; remove it, or use the path that it leads to", target.display())
        }
        (Ok(target), Err(_)) => format!(
            "a symbolic link to {} stands there, which leads nowhere; remove the link, or choose another path",
            target.display()
        ),
    }
}

fn identity_of_directory(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(directory_of(path)).ok().map(|found| (found.dev(), found.ino()))
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
        for (errno, path_state) in [
            (libc::EACCES, PathState::Hidden),
            (libc::ECONNREFUSED, PathState::Stale),
            (libc::ENOENT, PathState::Free),
            (libc::EAGAIN, PathState::Live),
            (libc::EPROTOTYPE, PathState::Live),
        ] {
            assert_eq!(state_by_connect(Err(io::Error::from_raw_os_error(errno))), path_state);
        }
        assert_eq!(state_by_connect(Ok(())), PathState::Live);
    }
}
