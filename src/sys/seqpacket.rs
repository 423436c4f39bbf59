//! Sequential-packet sockets at a path (`unix(7)`): where a serving process can be found for a handoff.
//!
//! A packet arrives whole or not at all, with the descriptors that belong to it, so that the protocol needs no framing.
//! Connecting tells whether a process listens, which a file or a lock would not.

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use rustix::net::SocketFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::path;

/// How many may wait to be accepted.
const BACKLOG: c_int = 128;

/// Binds `path`, which must be free, for its owner alone or for every user, and listens there.
///
/// Between bind and listen a fresh socket refuses connections as a stale one does, so others must not look at `path`
/// yet.
///
/// # Errors
///
/// The path exists, or cannot be created.
pub(crate) fn listen(path: &Path, for_every_user: bool) -> io::Result<OwnedFd> {
    let mode = if for_every_user { 0o666 } else { 0o600 };
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.nonblocking(), None)?;
    path::set_socket_mode(socket.as_fd(), mode)?;
    socket.bind(&SockAddr::unix(path)?)?;
    path::set_path_mode(path, mode)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connects to `path`. It waits until `deadline` where as many as the backlog wait there already. The socket is
/// non-blocking.
///
/// # Errors
///
/// No process listens at the path, or it does not accept in time (`TimedOut`).
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

/// The user that this process acts as: its effective user id.
pub(crate) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
