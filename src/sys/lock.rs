//! A lock file beside the path of a socket, which only this service can lock.
//!
//! Any process that may read a directory or a file can lock it with `flock(2)`, for as long as it likes. So the lock is
//! a file of this service's own user that no other user can open. It exists only while a process holds it.
//!
//! # The race between release and take
//!
//! The holder removes the file while it is still locked. Another process may have opened the file by then, and get the
//! lock of a file that has no name any more, while a third process creates a new file of that name. So after the lock
//! is taken, the name must still be that of the locked file. If it is not, the process tries again from the start.
//!
//! A process that is killed leaves the file behind, unlocked, and the next one takes it.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

/// What the name of a lock file ends with, after the name of the socket.
const LOCK: &str = ".lock";

/// How often a lock that another process has is asked for.
const PAUSE: Duration = Duration::from_millis(2);

/// A lock on the path of a socket: held until it is dropped, which removes the file.
#[derive(Debug)]
pub(crate) struct PathLock {
    file: File,
    path: PathBuf,
}

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum LockFailure {
    /// What has the name of the lock file is none of this service, in words: the path and what it is.
    InTheWay(String),
    /// Another process of this service holds it beyond the deadline.
    Held(PathBuf),
    /// The system refused to create or to lock the file.
    System(io::Error),
}

impl PathLock {
    /// Locks the path of a socket, so that no other process of this service binds, replaces or removes it meanwhile.
    /// `owns` says whose lock file counts. It blocks, at most until `deadline`.
    ///
    /// # Errors
    ///
    /// Something else has the name of the lock file, another process holds it beyond the deadline, or the system
    /// refuses.
    pub(crate) fn take(socket: &Path, owns: impl Fn(u32) -> bool, deadline: Instant) -> Result<Self, LockFailure> {
        let path = lock_path(socket);
        loop {
            if let Some(file) = try_take(&path, &owns)? {
                return Ok(Self { file, path });
            }
            if Instant::now() >= deadline {
                return Err(LockFailure::Held(path));
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for PathLock {
    /// The file goes while it is still locked: a process that waits for it finds that its file has no name any more, and makes a
    /// new one.
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `None` while another process has it.
fn try_take(path: &Path, owns: &impl Fn(u32) -> bool) -> Result<Option<File>, LockFailure> {
    let Some(file) = open(path, owns)? else { return Ok(None) };
    if let Ok(found) = file.metadata() {
        check(path, &found, owns)?;
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(is_at(&file, path).then_some(file)),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(error) => Err(LockFailure::System(error.into())),
    }
}

/// `None` while another process creates, removes or has it.
fn open(path: &Path, owns: &impl Fn(u32) -> bool) -> Result<Option<File>, LockFailure> {
    /// Neither a link nor a FIFO makes this process go elsewhere or wait.
    const FLAGS: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
    const OWNER_ALONE: Mode = Mode::RUSR.union(Mode::WUSR);
    // Without O_CREAT first: with it, the kernel may refuse an existing file in a sticky directory (fs.protected_regular).
    match rustix::fs::open(path, FLAGS, Mode::empty()) {
        Ok(file) => return Ok(Some(file.into())),
        Err(Errno::NOENT) => {}
        Err(error) => {
            return match fs::symlink_metadata(path) {
                // One of root's, or of a user that this one takes over from: it is removed when it is released.
                Ok(found) => check(path, &found, owns).and(match error {
                    Errno::ACCESS => Ok(None),
                    error => Err(LockFailure::System(error.into())),
                }),
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(_) => Err(LockFailure::System(error.into())),
            };
        }
    }
    match rustix::fs::open(path, FLAGS | OFlags::CREATE | OFlags::EXCL, OWNER_ALONE) {
        Ok(file) => {
            // Whatever the umask left of it.
            let _ = rustix::fs::fchmod(&file, OWNER_ALONE);
            Ok(Some(file.into()))
        }
        Err(Errno::EXIST) => Ok(None),
        Err(error) => Err(LockFailure::System(error.into())),
    }
}

/// An error unless it is a file that only its owner can open, and the owner is one of ours.
fn check(path: &Path, found: &Metadata, owns: &impl Fn(u32) -> bool) -> Result<(), LockFailure> {
    let what = if !found.file_type().is_file() {
        what_is(found).to_owned()
    } else if !owns(found.uid()) {
        format!("a file of user {}", found.uid())
    } else if found.mode() & 0o077 != 0 || found.nlink() > 1 {
        format!("a file that others can open (mode {:o}, {} links)", found.mode() & 0o7777, found.nlink())
    } else {
        return Ok(());
    };
    Err(LockFailure::InTheWay(format!("{} is {what}", path.display())))
}

/// What a file is that is no regular file, with its article.
pub(crate) fn what_is(found: &Metadata) -> &'static str {
    match found.file_type() {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a directory",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_file() => "a regular file",
        _ => "a device",
    }
}

/// Whether the file is still the one of that name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = OsString::from(socket);
    path.push(LOCK);
    path.into()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::mpsc::channel};

    use tempfile::TempDir;

    use super::*;

    fn somewhere() -> (TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("app.sock");
        let lock = folder.path().join("app.sock.lock");
        (folder, socket, lock)
    }

    fn own(user: u32) -> bool {
        user == rustix::process::geteuid().as_raw()
    }

    fn at_once(socket: &Path) -> Result<PathLock, LockFailure> {
        PathLock::take(socket, own, Instant::now())
    }

    #[test]
    fn one_has_the_lock_at_a_time_and_the_file_goes_with_it() {
        let (folder, socket, lock) = somewhere();
        let first = at_once(&socket).unwrap();
        assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o7777, 0o600);
        assert!(matches!(at_once(&socket), Err(LockFailure::Held(path)) if path == lock));
        drop(first);
        drop(at_once(&socket).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_that_a_killed_process_left_is_taken() {
        let (_folder, socket, lock) = somewhere();
        fs::write(&lock, "").unwrap();
        fs::set_permissions(&lock, PermissionsExt::from_mode(0o600)).unwrap();
        drop(at_once(&socket).unwrap());
        assert!(!lock.exists());
    }

    #[test]
    fn many_that_wait_have_it_one_after_the_other() {
        let (_folder, socket, _) = somewhere();
        let (sender, inside) = channel();
        thread::scope(|scope| {
            for number in 0..8 {
                let (sender, socket) = (sender.clone(), &socket);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let lock = PathLock::take(socket, own, Instant::now() + Duration::from_secs(60)).unwrap();
                        sender.send((number, true)).unwrap();
                        sender.send((number, false)).unwrap();
                        drop(lock);
                    }
                });
            }
        });
        let said: Vec<_> = inside.try_iter().collect();
        assert_eq!(said.len(), 800);
        assert!(said.chunks(2).all(|pair| pair[0] == (pair[1].0, true)), "two were inside at once");
    }

    #[test]
    fn what_is_not_ours_is_named() {
        let (folder, socket, lock) = somewhere();
        let says = |words: &str| match at_once(&socket) {
            Err(LockFailure::InTheWay(text)) => {
                assert!(text.contains("app.sock.lock is ") && text.contains(words), "{text}");
            }
            other => panic!("{words}: {other:?}"),
        };
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &lock).unwrap();
        says("a symbolic link");
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
        says("a directory");
        fs::remove_dir(&lock).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &lock, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        says("a FIFO");
        fs::remove_file(&lock).unwrap();
        fs::write(&lock, "").unwrap();
        fs::set_permissions(&lock, PermissionsExt::from_mode(0o644)).unwrap();
        says("a file that others can open (mode 644, 1 links)");
        fs::set_permissions(&lock, PermissionsExt::from_mode(0o600)).unwrap();
        fs::hard_link(&lock, folder.path().join("other")).unwrap();
        says("2 links");
        let stranger = PathLock::take(&socket, |_| false, Instant::now());
        assert!(matches!(stranger, Err(LockFailure::InTheWay(text)) if text.contains("a file of user ")));
    }
}
