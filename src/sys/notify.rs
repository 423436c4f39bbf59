//! The sending end of a notify socket, `sd_notify(3)`: datagrams that may carry one descriptor each.
//!
//! The socket is connected, because only then does the kernel wake a sender when a full queue at the other end has room
//! again. A manager that is started again has a new socket at the same address, so a refusal connects anew and sends
//! once more.

use std::{
    ffi::OsStr,
    fmt,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::BorrowedFd,
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};

/// A datagram socket that sends to one address and never blocks.
///
/// Connected, because only then does the kernel say when a full queue at the other end has room again.
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl NotifySocket {
    /// A socket for the path or, after an `@`, the abstract name. The socket at the address need not be there yet.
    pub(crate) fn open(address: &[u8]) -> io::Result<Self> {
        let address = parse(address)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Sends one message. [`WouldBlock`](io::ErrorKind::WouldBlock) when the queue at the other end is full.
    pub(crate) fn send(&self, text: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        match self.send_connected(text, fd) {
            // Not connected yet, or the manager that was there has gone and another may have come.
            Err(Errno::NOTCONN | Errno::CONNREFUSED | Errno::CONNRESET | Errno::DESTADDRREQ) => {
                self.socket.connect_addr(&self.address)?;
                Ok(self.send_connected(text, fd)?)
            }
            sent => Ok(sent?),
        }
    }

    /// A copy that the current runtime watches: writable when there may be room.
    pub(crate) fn watch(&self) -> io::Result<tokio::net::UnixDatagram> {
        tokio::net::UnixDatagram::from_std(self.socket.try_clone()?)
    }

    fn send_connected(&self, text: &str, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.as_slice();
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::io::retry_on_intr(|| sendmsg(&self.socket, &[IoSlice::new(text.as_bytes())], &mut control, flags))?;
        Ok(())
    }
}

impl fmt::Debug for NotifySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifySocket").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Whether the kernel is short of something that comes back by itself, and not of room in a queue: memory, or descriptors of ours
/// that are on their way (`ETOOMANYREFS` of `unix(7)`).
pub(crate) fn is_short(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOBUFS | Errno::NOMEM | Errno::TOOMANYREFS))
}

fn parse(address: &[u8]) -> io::Result<SocketAddr> {
    match address {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(OsStr::from_bytes(address)),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "only an absolute path and an abstract name (@name) can be sent to",
        )),
    }
}
