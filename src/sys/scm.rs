//! One packet and the file descriptors that travel with it: `SOCK_SEQPACKET` and `SCM_RIGHTS` of `unix(7)`.
//!
//! A packet is sent whole or not at all. Nothing here waits: what would block is [`WouldBlock`](io::ErrorKind::WouldBlock),
//! whatever flags the socket has.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};
use socket2::SockRef;

/// The most descriptors that one packet carries: `SCM_MAX_FD` of the kernel.
pub(crate) const MOST_FDS: usize = 253;

/// What the socket is asked to hold of packets that nobody has read yet; `net.core.wmem_max` has the last word.
const SEND_BUFFER: usize = 512 * 1024;

/// What came in one packet.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes of the buffer it fills; none is the end, as the other side has closed.
    pub(crate) len: usize,
    /// Close-on-exec from the first moment.
    pub(crate) fds: Vec<OwnedFd>,
    /// It was longer than the buffer (`MSG_TRUNC`).
    pub(crate) is_cut: bool,
    /// More descriptors came than this process could take (`MSG_CTRUNC`): its table is full. They are closed.
    pub(crate) lacks_fds: bool,
}

/// A connected pair, close-on-exec and non-blocking.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Makes room for a few large packets; without it as much fits as the system has by default.
pub(crate) fn enlarge_buffer(socket: impl AsFd) {
    let _ = SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
}

/// Sends one packet with `fds`, of which there may be up to [`MOST_FDS`].
///
/// The two errors that are no failure are told apart by [`is_too_many_in_flight`] and [`is_gone`].
pub(crate) fn send(socket: impl AsFd, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 253 descriptors in one packet"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(packet)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one packet into `buffer`.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Ok(message) => break message,
            // Says that the other side closed with packets of ours unread, and says it once, before what is still to be read here.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    Ok(Received {
        len: message.bytes,
        fds,
        is_cut: message.flags.contains(ReturnFlags::TRUNC),
        lacks_fds: message.flags.contains(ReturnFlags::CTRUNC),
    })
}

/// The user has more descriptors in flight than `RLIMIT_NOFILE` (`ETOOMANYREFS`): try again once some have been received.
pub(crate) fn is_too_many_in_flight(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error())
}

/// The other side has closed; what it sent before can still be received.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}
