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

/// What the socket is asked to hold of packets that are not read yet; `net.core.wmem_max` has the last word.
const SEND_BUFFER: usize = 512 * 1024;

/// What came in one packet.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes of the buffer it fills; none is the end, as the other side has closed.
    pub(crate) len: usize,
    /// Close-on-exec from the first moment.
    pub(crate) fds: Vec<OwnedFd>,
    /// It was longer than the buffer (`MSG_TRUNC`).
    pub(crate) is_truncated: bool,
    /// More descriptors came than this process could take (`MSG_CTRUNC`): its table is full. They are closed.
    pub(crate) lacks_fds: bool,
    /// The other side has closed and left unread what this side sent, or has never accepted the connection.
    pub(crate) left_unread: bool,
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
/// The two errors that are no failure are found by [`is_too_many_in_flight`] and [`is_gone`].
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
///
/// # Errors
///
/// `WouldBlock` where there is none. A reset is not an error: it says once that the other side closed with packets
/// unread, and what it sent before is still read.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut left_unread = false;
    let message = loop {
        match rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Ok(message) => break message,
            // Says that the other side closed with packets of ours unread, and says it once, before what is still to be read here.
            Err(Errno::CONNRESET) => left_unread = true,
            Err(Errno::INTR) => {}
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
        is_truncated: message.flags.contains(ReturnFlags::TRUNC),
        lacks_fds: message.flags.contains(ReturnFlags::CTRUNC),
        left_unread,
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

#[cfg(test)]
mod tests {
    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;

    fn descriptors(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect()
    }

    fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
        fds.iter().map(AsFd::as_fd).collect()
    }

    #[test]
    fn a_packet_arrives_whole_and_its_descriptors_are_close_on_exec() {
        let (a, b) = pair().unwrap();
        for count in [0, 1, MOST_FDS] {
            send(&a, b"packet", &borrowed(&descriptors(count))).unwrap();
            send(&a, b"next", &[]).unwrap();
            let mut buffer = [0; 100];
            let received = receive(&b, &mut buffer).unwrap();
            assert_eq!((&buffer[..received.len], received.fds.len()), (&b"packet"[..], count));
            assert!(!received.is_truncated && !received.lacks_fds);
            assert!(received.fds.iter().all(|fd| fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)));
            assert_eq!(receive(&b, &mut buffer).unwrap().len, 4);
        }
    }

    #[test]
    fn a_packet_that_is_too_long_says_so_and_one_that_is_not_there_is_no_end() {
        let (a, b) = pair().unwrap();
        send(&a, b"packet", &borrowed(&descriptors(2))).unwrap();
        let received = receive(&b, &mut [0; 5]).unwrap();
        assert!(received.is_truncated && received.len == 5 && received.fds.len() == 2, "{received:?}");
        assert_eq!(receive(&b, &mut [0; 5]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn more_descriptors_than_a_packet_carries_are_an_error_and_nothing_is_sent() {
        let (a, b) = pair().unwrap();
        let error = send(&a, b"packet", &borrowed(&descriptors(MOST_FDS + 1))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(receive(&b, &mut [0; 5]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_was_said_before_the_end_is_heard_though_the_other_side_left_things_unread() {
        let (a, b) = pair().unwrap();
        send(&a, b"unread", &[]).unwrap();
        send(&b, b"last word", &[]).unwrap();
        drop(b);
        let mut buffer = [0; 100];
        let received = receive(&a, &mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], b"last word");
        assert_eq!(receive(&a, &mut buffer).unwrap().len, 0);
        assert!(is_gone(&send(&a, b"x", &[]).unwrap_err()));
    }

    #[test]
    fn to_whom_reads_nothing_only_so_much_can_be_sent() {
        let (a, _b) = pair().unwrap();
        enlarge_buffer(&a);
        let packet = vec![0; 64 * 1024];
        let sent = (0..1000).map(|_| send(&a, &packet, &[])).find_map(Result::err).unwrap();
        assert_eq!(sent.kind(), io::ErrorKind::WouldBlock);
    }
}
