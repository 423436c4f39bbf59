//! What a file descriptor is, asked of the kernel and never of its name; and what is set on sockets that several
//! processes have.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::FileType,
    io::Errno,
    net::RecvFlags,
    process::{Pid, PidfdFlags},
};
use socket2::{Domain, SockFilter, SockRef, Type};

/// How long an `accept` may block when another process has cleared `O_NONBLOCK` on a listening socket we share.
const BLOCKED_ACCEPT_LIMIT: Duration = Duration::from_millis(5);

/// `PID_FS_MAGIC` of `linux/magic.h`: only there is a pidfd's inode number unique.
const PID_FS_MAGIC: u32 = 0x5049_4446;

/// What kind of thing a file descriptor is, as `SO_DOMAIN`, `SO_TYPE`, `SO_ACCEPTCONN` and `fstat` tell.
///
/// It prints in words, for messages:
///
/// ```
/// use axum_activation::{SocketFamily, SocketKind};
///
/// assert_eq!(SocketKind::Datagram(SocketFamily::Ipv4).to_string(), "an IPv4 datagram socket");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketKind {
    /// A stream socket that listens.
    Listener(SocketFamily),
    /// A connected stream socket, as `Accept=yes` passes.
    Connection(SocketFamily),
    /// A stream socket that neither listens nor is connected.
    IdleStream(SocketFamily),
    /// A datagram socket.
    Datagram(SocketFamily),
    /// A sequential-packet socket.
    SeqPacket(SocketFamily),
    /// A socket of another type: raw, netlink and their like.
    OtherSocket(SocketFamily),
    /// A FIFO or a pipe.
    Fifo,
    /// A regular file.
    RegularFile,
    /// Anything else: a device, a directory, a message queue, an anonymous inode.
    OtherFile,
}

/// The address family of a socket.
///
/// ```
/// use axum_activation::SocketFamily;
///
/// assert_eq!(SocketFamily::Unix.to_string(), "Unix");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketFamily {
    /// `AF_INET`.
    Ipv4,
    /// `AF_INET6`.
    Ipv6,
    /// `AF_UNIX`.
    Unix,
    /// `AF_VSOCK`.
    Vsock,
    /// Any other family.
    Other,
}

impl SocketKind {
    /// Whether it listens, and is of a family that we serve.
    pub(crate) fn is_served_listener(self) -> bool {
        matches!(self, Self::Listener(family) if family.is_served())
    }

    /// Whether it listens or is connected, and is of a family that we serve.
    pub(crate) fn is_served(self) -> bool {
        matches!(self, Self::Listener(family) | Self::Connection(family) if family.is_served())
    }
}

impl fmt::Display for SocketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(family) => write!(f, "a listening {family} stream socket"),
            Self::Connection(family) => write!(f, "a connected {family} stream socket"),
            Self::IdleStream(family) => write!(f, "{} {family} stream socket that does not listen", family.article()),
            Self::Datagram(family) => write!(f, "{} {family} datagram socket", family.article()),
            Self::SeqPacket(family) => write!(f, "{} {family} sequential-packet socket", family.article()),
            Self::OtherSocket(family) => write!(f, "{} {family} socket of another type", family.article()),
            Self::Fifo => f.write_str("a FIFO"),
            Self::RegularFile => f.write_str("a regular file"),
            Self::OtherFile => f.write_str("a file that is no socket"),
        }
    }
}

impl SocketFamily {
    fn is_served(self) -> bool {
        match self {
            Self::Vsock => cfg!(feature = "vsock"),
            family => family != Self::Other,
        }
    }

    fn article(self) -> &'static str {
        match self {
            Self::Ipv4 | Self::Ipv6 => "an",
            _ => "a",
        }
    }
}

impl fmt::Display for SocketFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Unix => "Unix",
            Self::Vsock => "vsock",
            Self::Other => "foreign-family",
        })
    }
}

/// Asks the kernel what `fd` is.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> SocketKind {
    let file_type = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match file_type {
        Ok(FileType::Socket) => socket_kind(fd).unwrap_or(SocketKind::OtherFile),
        Ok(FileType::Fifo) => SocketKind::Fifo,
        Ok(FileType::RegularFile) => SocketKind::RegularFile,
        _ => SocketKind::OtherFile,
    }
}

/// Whether a client can connect to it (`SO_ACCEPTCONN`), of whatever type it is.
pub(crate) fn is_listening(fd: BorrowedFd<'_>) -> bool {
    SockRef::from(&fd).is_listener().unwrap_or(false)
}

/// Makes an `accept` on this socket return after a few milliseconds even where another process has cleared `O_NONBLOCK`
/// (`SO_RCVTIMEO` of `socket(7)`).
pub(crate) fn limit_blocked_accept(fd: impl AsFd) -> io::Result<()> {
    SockRef::from(&fd).set_read_timeout(Some(BLOCKED_ACCEPT_LIMIT))
}

/// Leaves a socket as a service manager passes it: without a limit on what blocks, and blocking if so asked.
pub(crate) fn make_plain(fd: impl AsFd, blocking: bool) -> io::Result<()> {
    let socket = SockRef::from(&fd);
    socket.set_read_timeout(None)?;
    socket.set_nonblocking(!blocking)
}

/// Makes a listening TCP socket deaf to who connects from now on; connects that it has answered complete.
///
/// A client whose first packet is dropped sends it again, and finds the socket closed by then: it is refused, where otherwise
/// it would be connected and reset.
pub(crate) fn ignore_connects(fd: impl AsFd) -> io::Result<()> {
    /// Where TCP has its flags, and which they are (RFC 9293, section 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let load = SockFilter::new(code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS), 0, 0, FLAGS);
    let mask = SockFilter::new(code(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K), 0, 0, SYN | ACK);
    let only_syn = SockFilter::new(code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), 0, 1, SYN);
    let verdict = |keep| SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, keep);
    SockRef::from(&fd).attach_filter(&[load, mask, only_syn, verdict(0), verdict(u32::MAX)])
}

/// Whether a read, or an `accept`, finds something now (`poll(2)`).
pub(crate) fn is_readable(fd: impl AsFd) -> bool {
    let mut fd = [PollFd::new(&fd, PollFlags::IN)];
    rustix::event::poll(&mut fd, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// How many bytes have come and are not read yet (`FIONREAD`); 0 where the kernel does not say.
pub(crate) fn unread(fd: impl AsFd) -> u64 {
    rustix::io::ioctl_fionread(fd).unwrap_or(0)
}

/// The number of a socket, which no other has as long as the machine runs (`SO_COOKIE` of `socket(7)`); an error if it is none.
pub(crate) fn cookie(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::net::sockopt::socket_cookie(fd)?)
}

/// Whether nothing more can come from who is at the other end, and nothing is left that has come.
pub(crate) fn is_over(fd: impl AsFd) -> bool {
    let peeked = rustix::net::recv(fd, &mut [0][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    !matches!(peeked, Ok((_, 1..)) | Err(Errno::AGAIN | Errno::INTR))
}

/// The inode of this process's pidfd, as `LISTEN_PIDFDID` carries it; `None` where the kernel has no pidfs (before 6.9) or
/// inode numbers are too short for it.
pub(crate) fn own_pidfd_id() -> Option<u64> {
    if cfg!(not(target_pointer_width = "64")) {
        return None;
    }
    let own = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw)?;
    let pidfd = rustix::process::pidfd_open(own, PidfdFlags::empty()).ok()?;
    let on_pidfs = rustix::fs::fstatfs(&pidfd).is_ok_and(|fs| u32::try_from(fs.f_type) == Ok(PID_FS_MAGIC));
    let inode = rustix::fs::fstat(&pidfd).ok()?.st_ino;
    on_pidfs.then_some(inode)
}

fn code(instruction: u32) -> u16 {
    u16::try_from(instruction).unwrap_or_default()
}

fn socket_kind(fd: BorrowedFd<'_>) -> io::Result<SocketKind> {
    let socket = SockRef::from(&fd);
    let family = family(socket.domain()?);
    Ok(match socket.r#type()? {
        Type::STREAM if socket.is_listener()? => SocketKind::Listener(family),
        Type::STREAM if socket.peer_addr().is_ok() => SocketKind::Connection(family),
        Type::STREAM => SocketKind::IdleStream(family),
        Type::DGRAM if family != SocketFamily::Other => SocketKind::Datagram(family),
        Type::SEQPACKET => SocketKind::SeqPacket(family),
        _ => SocketKind::OtherSocket(family),
    })
}

fn family(domain: Domain) -> SocketFamily {
    match domain {
        Domain::IPV4 => SocketFamily::Ipv4,
        Domain::IPV6 => SocketFamily::Ipv6,
        Domain::UNIX => SocketFamily::Unix,
        #[cfg(target_os = "linux")]
        Domain::VSOCK => SocketFamily::Vsock,
        _ => SocketFamily::Other,
    }
}
