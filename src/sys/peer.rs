//! The process at the other end of a Unix socket, as the kernel knows it.

use std::{
    ffi::c_int,
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
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

/// Who is at the other end. By hand, as not every type for it can hold the process id 0.
pub(crate) fn credentials(socket: impl AsFd) -> io::Result<Peer> {
    let none = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let peer = option(socket.as_fd().as_raw_fd(), libc::SO_PEERCRED, none)?;
    Ok(Peer { pid: peer.pid.unsigned_abs(), user: peer.uid })
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
    // SAFETY: the kernel writes at most as many bytes as `length` says, which is the size of `value`.
    let asked =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, name, ptr::from_mut(&mut value).cast(), &mut length) };
    if asked == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scm;

    #[test]
    fn the_peer_of_a_pair_is_the_process_that_made_it() {
        let (one, other) = scm::pair().unwrap();
        for socket in [one, other] {
            let peer = process(&socket).unwrap();
            assert_eq!(peer.pid(), std::process::id());
            assert!(!peer.is_gone());
        }
    }
}
