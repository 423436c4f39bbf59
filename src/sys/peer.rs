//! The process at the other end of a Unix socket, as the kernel knows it.
//!
//! What the other process says of itself is not believed where the kernel can be asked: its user decides whether it may
//! take over or be taken over from, and its pidfd whether it has ended.

use std::{
    ffi::c_int,
    fs, io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    ptr,
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::process::Process;

/// The process at the other end when it connected, listened or made the pair, as the kernel noted it (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its process id as it is called here; 0 if it lives in a pid namespace that cannot be seen from here.
    pub(crate) pid: u32,
    pub(crate) user: u32,
}

/// Asks who is at the other end. It is done by hand, as not every type for it can hold the process id 0.
pub(crate) fn credentials(socket: impl AsFd) -> io::Result<Peer> {
    let none = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let peer = option(socket.as_fd().as_raw_fd(), libc::SO_PEERCRED, none)?;
    Ok(Peer { pid: peer.pid.unsigned_abs(), user: peer.uid })
}

/// Whether `user` is one user, and not the one that the kernel shows in place of all that this user namespace does not map
/// (`user_namespaces(7)`). Where `/proc` is missing, the kernel's usual number for that one is not believed.
pub(crate) fn is_one_user(user: u32) -> bool {
    /// `/proc/sys/kernel/overflowuid`, unless it was changed.
    const USUAL: u32 = 65534;
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok().and_then(|user| user.trim().parse().ok());
    user != overflow.unwrap_or(USUAL)
        || match fs::read_to_string("/proc/self/uid_map") {
            Ok(map) => maps_every_user(&map),
            // A kernel without user namespaces has no such file.
            Err(_) => Path::new("/proc/self").exists(),
        }
}

/// Whether the ranges of a `uid_map` (first user inside, first outside, how many) have room for all.
fn maps_every_user(map: &str) -> bool {
    let count = |line: &str| line.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok());
    map.lines().filter_map(count).sum::<u64>() >= u32::MAX.into()
}

/// The process that made the pair, or that listened where this socket connected.
///
/// `SO_PEERPIDFD` (Linux 6.5) names the process itself. Before that there is its number alone (`SO_PEERCRED`), which is 0 for a
/// process of a foreign pid namespace, and another process's once it has ended: ask while the peer is known to live.
pub(crate) fn process(socket: impl AsFd) -> io::Result<Process> {
    let socket = socket.as_fd().as_raw_fd();
    let credentials = option(socket, libc::SO_PEERCRED, libc::ucred { pid: 0, uid: 0, gid: 0 })?;
    let pidfd = match option(socket, libc::SO_PEERPIDFD, -1) {
        // SAFETY: the kernel has made this descriptor for the call, and nothing else owns it.
        Ok(pidfd) if pidfd >= 0 => unsafe { OwnedFd::from_raw_fd(pidfd) },
        _ => pidfd_open(Pid::from_raw(credentials.pid).ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?,
    };
    Ok(Process::new(credentials.pid.unsigned_abs(), pidfd))
}

/// The value of an option of the socket level, in place of `value`, which is of the option's type.
fn option<T: Copy>(socket: c_int, name: c_int, mut value: T) -> io::Result<T> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let place = ptr::from_mut(&mut value).cast();
    // SAFETY: the kernel writes at most as many bytes as `length` says, which is the size of `value`.
    let asked = unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, name, place, &mut length) };
    if asked == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_every_user_or_not() {
        assert!(maps_every_user("         0          0 4294967295\n"));
        assert!(maps_every_user("0 0 1000\n1000 1000 4294966295\n"));
        for map in ["", "0 1000 1\n", "0 100000 65536\n", "65534 165534 1", "nonsense", "0 0 x"] {
            assert!(!maps_every_user(map), "{map:?}");
        }
        assert!(is_one_user(0) && is_one_user(1000));
    }

    #[cfg(feature = "handoff")]
    #[test]
    fn the_peer_of_a_pair_is_the_process_that_made_it() {
        let (one, other) = crate::sys::scm::pair().unwrap();
        for socket in [one, other] {
            let peer = process(&socket).unwrap();
            assert_eq!(peer.pid(), std::process::id());
            assert!(!peer.is_gone());
        }
    }
}
