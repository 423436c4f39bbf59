//! A connection that comes from another process, or back from an attempt to move it.
//!
//! It is registered with the runtime here, and the kernel is asked who the client is. What the other process says about
//! the client is not used: an address or a user that it invents would be believed by handlers.

use std::io;

use hyper::body::Bytes;

use crate::{
    addr::PeerAddr,
    idle_connection::{IdleConnection, Protocol, Reservation, Times},
    listener::ActivatedStream,
};

/// A connection that was accepted earlier, registered with the runtime of this process.
#[derive(Debug)]
pub(in crate::server) struct TransferredConnection {
    pub(in crate::server) stream: ActivatedStream,
    pub(in crate::server) peer: PeerAddr,
    pub(super) read_ahead: Bytes,
    pub(super) protocol: Protocol,
    pub(super) times: Times,
    pub(super) reservation: Option<Reservation>,
}

impl TransferredConnection {
    /// Registers the socket with the runtime. The kernel says who the client is: what the other process says of it is not used.
    ///
    /// # Errors
    ///
    /// The descriptor is no connected socket, or the client has closed it.
    pub(in crate::server) fn register(connection: IdleConnection) -> io::Result<Self> {
        let IdleConnection { stream, read_ahead, protocol, times, reservation, .. } = connection;
        let stream = ActivatedStream::register(stream)?;
        let peer = stream.peer_addr()?;
        Ok(Self { stream, peer, read_ahead, protocol, times, reservation })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, TcpStream},
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    use super::*;

    fn peer_of(stream: impl Into<OwnedFd>, peer: &str) -> io::Result<PeerAddr> {
        let (listener, stream, peer) = ("http".into(), stream.into(), peer.parse().unwrap());
        let (read_ahead, times) = (Bytes::new(), Times::now());
        let connection = IdleConnection {
            listener,
            stream,
            peer,
            read_ahead,
            protocol: Protocol::Undetected,
            times,
            reservation: None,
        };
        TransferredConnection::register(connection).map(|connection| connection.peer)
    }

    #[tokio::test]
    async fn who_a_client_is_the_kernel_says_and_not_the_process_before() {
        let gate = TcpListener::bind("127.0.0.1:0").unwrap();
        for claimed in ["10.9.8.7:1", "unix (pid 1, uid 4001, gid 4001)"] {
            let client = TcpStream::connect(gate.local_addr().unwrap()).unwrap();
            let (far, _) = gate.accept().unwrap();
            assert_eq!(peer_of(far, claimed).unwrap(), PeerAddr::Tcp(client.local_addr().unwrap()));
        }
        let (one, _other) = UnixStream::pair().unwrap();
        let own = rustix::process::geteuid().as_raw();
        let peer = peer_of(one, "unix:/run/a.sock (pid 1, uid 4001, gid 4001)").unwrap();
        let credentials = peer.credentials().unwrap();
        assert_eq!((credentials.uid, credentials.pid), (own, i32::try_from(std::process::id()).ok()));
        assert_eq!(peer.to_string().split(' ').next(), Some("unix"), "{peer} has no address");
        for no_connection in [OwnedFd::from(gate), File::open("/dev/null").unwrap().into()] {
            peer_of(no_connection, "10.9.8.7:1").unwrap_err();
        }
    }
}
