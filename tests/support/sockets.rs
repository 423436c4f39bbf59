//! Sockets and files of every kind, to be passed to a child.

use std::{
    fs::File,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
};

use axum_activation::ListenAddr;
use socket2::{Domain, SockRef, Socket, Type};

/// A TCP socket that listens on a port of its own.
pub(crate) fn tcp() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub(crate) fn udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

pub(crate) fn unix_datagram() -> UnixDatagram {
    UnixDatagram::unbound().unwrap()
}

pub(crate) fn regular_file() -> File {
    tempfile::tempfile().unwrap()
}

/// The reading end of a pipe whose writing end is closed.
pub(crate) fn a_pipe() -> OwnedFd {
    rustix::pipe::pipe().unwrap().0
}

pub(crate) fn device() -> File {
    File::open("/dev/null").unwrap()
}

/// Bound, but `listen` was not called.
pub(crate) fn not_yet_listening() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket
}

pub(crate) fn sequential_packets() -> OwnedFd {
    Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap().into()
}

/// A netlink socket, `AF_NETLINK` of `netlink(7)`.
pub(crate) fn netlink() -> OwnedFd {
    const AF_NETLINK: i32 = 16;
    Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, None).unwrap().into()
}

/// The two ends of a TCP connection: the client's, and the one that a server has accepted.
pub(crate) fn tcp_connection() -> (TcpStream, TcpStream) {
    let listener = tcp();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (served, _) = listener.accept().unwrap();
    (client, served)
}

pub(crate) fn unix_connection() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// Another descriptor of the same socket.
pub(crate) fn copy(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().unwrap()
}

/// Where a TCP socket listens.
pub(crate) fn addr(fd: impl AsFd) -> ListenAddr {
    let addr = SockRef::from(&fd).local_addr().unwrap();
    addr.as_socket().unwrap().into()
}
