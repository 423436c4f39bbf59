//! Sequential-packet sockets at a path (`unix(7)`), and who is at their other end.

use std::{
    ffi::c_int,
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    ptr,
    time::{Duration, Instant},
};

use rustix::net::SocketFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::path;

/// How many may wait to be accepted.
const BACKLOG: c_int = 128;

/// Binds `path`, which must be free, for its owner alone, and listens there.
///
/// Between bind and listen a fresh socket refuses connections as a stale one does, so others must not look at `path` yet.
pub(crate) fn listen(path: &Path) -> io::Result<OwnedFd> {
    const OWNER_ALONE: u32 = 0o600;
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.nonblocking(), None)?;
    path::set_socket_mode(socket.as_fd(), OWNER_ALONE)?;
    socket.bind(&SockAddr::unix(path)?)?;
    path::set_path_mode(path, OWNER_ALONE)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connects to `path`; waits until `deadline` where too many wait there already. The socket is non-blocking.
pub(crate) fn connect(path: &Path, deadline: Instant) -> io::Result<OwnedFd> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        // None at all would mean for ever.
        socket.set_write_timeout(Some(remaining.max(Duration::from_millis(1))))?;
        match socket.connect(&address) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    socket.set_write_timeout(None)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The next connection, close-on-exec and non-blocking.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
}

/// The user at the other end when it connected, or listened (`SO_PEERCRED`). By hand, as the process id beside it is 0 for
/// one of a foreign pid namespace, which not every type for it can hold.
pub(crate) fn peer_user(socket: impl AsFd) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    let (fd, place) = (socket.as_fd().as_raw_fd(), ptr::from_mut(&mut peer).cast());
    // SAFETY: the kernel writes at most as many bytes as `length` says, which is the size of `peer`.
    let asked = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, place, &mut length) };
    if asked == 0 { Ok(peer.uid) } else { Err(io::Error::last_os_error()) }
}

/// The user that this process acts as.
pub(crate) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
