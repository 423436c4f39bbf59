//! Who is at the other end.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use socket2::SockAddr;

use super::ListenAddr;

/// Who is at the other end of a connection, and which end of a socket this process has.
///
/// What [`ActivatedListener`](crate::ActivatedListener) gives axum as its address: a handler takes
/// `ConnectInfo<PeerAddr>`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddr {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(UnixPeer),
    /// A vsock context id and port.
    Vsock {
        /// The context id.
        cid: u32,
        /// The port.
        port: u32,
    },
}

/// The other end of a Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnixPeer {
    /// The address it is bound to; most clients have none. The abstract name of a client that was accepted here is not known, as
    /// mio drops it.
    pub addr: Option<Arc<ListenAddr>>,
    /// Who connected, as the kernel noted it then (`SO_PEERCRED` of `unix(7)`).
    pub credentials: Option<PeerCredentials>,
}

/// The process at the other end of a Unix socket when it connected, seen from this process's namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// Its process id; `None` if it lives in a pid namespace that cannot be seen from here.
    pub pid: Option<i32>,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

impl PeerAddr {
    /// The IP address and port, if it has one.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            _ => None,
        }
    }

    /// The IP address, if it has one; an IPv4 address is one even when it came through an IPv6 socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|addr| addr.ip().to_canonical())
    }

    /// The process at the other end of a Unix socket.
    #[must_use]
    pub fn credentials(&self) -> Option<PeerCredentials> {
        match self {
            Self::Unix(peer) => peer.credentials,
            _ => None,
        }
    }

    /// The address as the kernel tells it; one of an unknown family counts as an unnamed Unix socket.
    pub(crate) fn from_kernel(addr: &SockAddr) -> Self {
        match ListenAddr::from_kernel(addr) {
            Some(ListenAddr::Tcp(addr)) => Self::Tcp(addr),
            Some(ListenAddr::Vsock { cid, port }) => Self::Vsock { cid, port },
            unix => Self::Unix(UnixPeer { addr: unix.map(Arc::new), credentials: None }),
        }
    }
}

/// `127.0.0.1:41234`, `unix:/run/client.sock`, `unix (pid 12, uid 0)`, `vsock:2:1024`.
impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(peer) => peer.fmt(f),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

impl fmt::Display for UnixPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.addr {
            Some(addr) => addr.fmt(f)?,
            None => f.write_str("unix")?,
        }
        match self.credentials {
            Some(PeerCredentials { pid: Some(pid), uid, .. }) => write!(f, " (pid {pid}, uid {uid})"),
            Some(PeerCredentials { uid, .. }) => write!(f, " (uid {uid})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_says_who_it_is() {
        let tcp = PeerAddr::Tcp("[::ffff:10.0.0.1]:80".parse().unwrap());
        assert_eq!(tcp.ip(), Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(tcp.credentials(), None);
        assert_eq!(PeerAddr::Tcp("10.0.0.1:80".parse().unwrap()).to_string(), "10.0.0.1:80");

        let mut unix = UnixPeer::default();
        assert_eq!(PeerAddr::Unix(unix.clone()).to_string(), "unix");
        unix.credentials = Some(PeerCredentials { pid: Some(7), uid: 1, gid: 2 });
        assert_eq!(PeerAddr::Unix(unix.clone()).to_string(), "unix (pid 7, uid 1)");
        unix.addr = Some(Arc::new("@me".parse().unwrap()));
        unix.credentials = Some(PeerCredentials { pid: None, uid: 1, gid: 2 });
        let unix = PeerAddr::Unix(unix);
        assert_eq!(unix.to_string(), "@me (uid 1)");
        assert_eq!((unix.ip(), unix.credentials().map(|peer| peer.gid)), (None, Some(2)));
        assert_eq!(PeerAddr::Vsock { cid: 2, port: 3 }.to_string(), "vsock:2:3");
    }
}
