//! Claims the file descriptors that this process inherited through `exec`.
//!
//! Why this is sound where "a safe function that turns an integer into a file descriptor" is not: a descriptor that
//! came through `exec` cannot have `FD_CLOEXEC` set, and all that Rust's standard library, tokio and socket2 open
//! themselves does. So a descriptor without the flag in the range that the environment names has no owner in this
//! process yet. The flag is set the moment it is claimed, so a second claim, by this crate or another, finds it taken.
//!
//! What this rests on: no other code of this process opens descriptors without `FD_CLOEXEC` before the claim. So the
//! claim comes first thing in `main`, and a descriptor with the flag is an error that says so.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::fs::OFlags;

use super::socket::{self, SocketKind};

/// The first inherited descriptor: `SD_LISTEN_FDS_START` of `sd_listen_fds(3)`.
pub(crate) const FIRST: RawFd = 3;

/// Why a range of descriptors cannot be claimed; nothing has been touched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unclaimable {
    /// This descriptor is not open.
    Closed(RawFd),
    /// This descriptor is close-on-exec: this process opened it, or something else has claimed it.
    Owned(RawFd),
}

/// Takes ownership of every descriptor in `range`, or of none. It sets `FD_CLOEXEC` and `O_NONBLOCK` on each.
///
/// # Errors
///
/// One of them is not open, or is close-on-exec. Nothing has been touched then.
pub(crate) fn claim(range: Range<RawFd>) -> Result<Vec<OwnedFd>, Unclaimable> {
    range.clone().try_for_each(check)?;
    Ok(range.map(own).collect())
}

/// The first descriptor in `range` that no launcher has passed, and what it is instead; changes nothing.
///
/// A launcher passes sockets that wait for clients: they listen, or take datagrams from any sender.
pub(crate) fn first_not_passed(mut range: Range<RawFd>) -> Option<(RawFd, String)> {
    range.find_map(|fd| match check(fd) {
        Err(Unclaimable::Closed(_)) => Some((fd, "is not open".to_owned())),
        Err(Unclaimable::Owned(_)) => Some((fd, "is close-on-exec, so this process has opened it".to_owned())),
        Ok(()) => not_waiting(fd).map(|kind| (fd, format!("is {kind}"))),
    })
}

/// What an open descriptor is that does not wait for clients.
fn not_waiting(fd: RawFd) -> Option<SocketKind> {
    // SAFETY: `check` has seen it open, and nothing in this process owns and closes it (see above).
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let kind = socket::kind(fd);
    let takes_datagrams = || matches!(kind, SocketKind::Datagram(_)) && rustix::net::getpeername(fd).is_err();
    (!socket::is_listening(fd) && !takes_datagrams()).then_some(kind)
}

/// Sets `O_NONBLOCK` if it is not set, and says whether it was missing.
///
/// The flag belongs to the open file description, so another process that shares it may have cleared it.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<bool> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    let missing = !flags.contains(OFlags::NONBLOCK);
    if missing {
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    }
    Ok(missing)
}

fn check(fd: RawFd) -> Result<(), Unclaimable> {
    match descriptor_flags(fd) {
        None => Err(Unclaimable::Closed(fd)),
        Some(flags) if flags & libc::FD_CLOEXEC != 0 => Err(Unclaimable::Owned(fd)),
        Some(_) => Ok(()),
    }
}

/// The descriptor's own flags, or `None` if it is not open.
fn descriptor_flags(fd: RawFd) -> Option<libc::c_int> {
    // SAFETY: F_GETFD reads a flag of a number in our table and touches no memory; a closed number answers EBADF.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    (flags != -1).then_some(flags)
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: `check` has seen it open and not close-on-exec, so it came through exec and nothing here owns it (see above).
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Neither call can fail on an open descriptor, and what a file cannot do (block) it ignores.
    let _ = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
    let _ = set_nonblocking(&fd);
    fd
}
