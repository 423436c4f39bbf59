//! Who is at the other end of a connection.
//!
//! The kernel is asked, and never the client: an address comes from `accept(2)`, and the process behind a Unix socket
//! from `SO_PEERCRED` of `unix(7)`. A proxy in front of the service is the peer here, whatever it says about its own
//! clients.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use socket2::SockAddr;

use super::ListenAddr;
use crate::error::{Error, Kind};

/// What stands for the address of a Unix socket that has none.
const UNNAMED: &str = "unix";

/// Who is at the other end of a connection, and which end of a socket this process has.
///
/// An [`ActivatedListener`](crate::ActivatedListener) gives it to axum as its address. A handler takes
/// `ConnectInfo<PeerAddr>`, under [`Server`](crate::Server) without further ado:
///
/// ```
/// use axum::{Router, extract::ConnectInfo, routing::get};
/// use axum_activation::PeerAddr;
///
/// async fn whoami(ConnectInfo(peer): ConnectInfo<PeerAddr>) -> String {
///     match peer.credentials() {
///         Some(process) => format!("a process of user {}", process.uid),
///         None => format!("a client at {peer}"),
///     }
/// }
/// let app: Router = Router::new().route("/", get(whoami));
/// # let _ = app;
/// ```
///
/// It prints and parses as one text form. With the feature `handoff` it has that form in JSON too, and binary formats
/// get a compact and exact one:
///
/// ```
/// use axum_activation::PeerAddr;
///
/// for text in ["192.0.2.7:41234", "unix", "unix:/run/client.sock (pid 12, uid 1000, gid 1000)", "vsock:2:1024"] {
///     assert_eq!(text.parse::<PeerAddr>()?.to_string(), text);
/// }
/// # Ok::<(), axum_activation::Error>(())
/// ```
///
/// It is cheap to clone.
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
///
/// ```
/// use axum_activation::PeerAddr;
///
/// let peer: PeerAddr = "@client (uid 1000, gid 100)".parse()?;
/// let PeerAddr::Unix(unix) = peer else { panic!("it is a Unix socket") };
/// assert_eq!(unix.addr.unwrap().to_string(), "@client");
/// assert_eq!(unix.credentials.unwrap().pid, None);
/// # Ok::<(), axum_activation::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnixPeer {
    /// The address the client is bound to. Most clients have none. The abstract name of a client that was accepted here
    /// is not known, as mio drops it.
    pub addr: Option<Arc<ListenAddr>>,
    /// The process that connected, as the kernel noted it then (`SO_PEERCRED` of `unix(7)`).
    pub credentials: Option<PeerCredentials>,
}

/// The process at the other end of a Unix socket when it connected, seen from the namespaces of this process.
///
/// The kernel notes them at `connect(2)`. A process that gets the socket from the client later is not seen.
///
/// ```
/// use axum_activation::{PeerAddr, PeerCredentials};
///
/// fn is_root(peer: &PeerAddr) -> bool {
///     matches!(peer.credentials(), Some(PeerCredentials { uid: 0, .. }))
/// }
/// assert!(is_root(&"unix (pid 1, uid 0, gid 0)".parse()?));
/// assert!(!is_root(&"127.0.0.1:4000".parse()?));
/// # Ok::<(), axum_activation::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// Its process id. `None` if it lives in a pid namespace that cannot be seen from here.
    pub pid: Option<i32>,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

impl PeerAddr {
    /// The IP address and port, if the peer has one.
    ///
    /// ```
    /// use axum_activation::PeerAddr;
    ///
    /// let tcp: PeerAddr = "192.0.2.7:41234".parse()?;
    /// assert_eq!(tcp.socket_addr().map(|addr| addr.port()), Some(41234));
    /// assert_eq!("unix".parse::<PeerAddr>()?.socket_addr(), None);
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            _ => None,
        }
    }

    /// The IP address, if the peer has one. An IPv4 address that came through an IPv6 socket is an IPv4 address here.
    ///
    /// ```
    /// use axum_activation::PeerAddr;
    ///
    /// let mapped: PeerAddr = "[::ffff:192.0.2.7]:41234".parse()?;
    /// assert_eq!(mapped.ip(), Some([192, 0, 2, 7].into()));
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|addr| addr.ip().to_canonical())
    }

    /// The process at the other end of a Unix socket; `None` for every other socket.
    ///
    /// ```
    /// use axum_activation::PeerAddr;
    ///
    /// let peer: PeerAddr = "unix (pid 12, uid 1000, gid 100)".parse()?;
    /// assert_eq!(peer.credentials().map(|process| process.uid), Some(1000));
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn credentials(&self) -> Option<PeerCredentials> {
        match self {
            Self::Unix(peer) => peer.credentials,
            _ => None,
        }
    }

    /// The address as the kernel gives it. One of an unknown family counts as an unnamed Unix socket.
    pub(crate) fn from_kernel(addr: &SockAddr) -> Self {
        match ListenAddr::from_kernel(addr) {
            Some(ListenAddr::Tcp(addr)) => Self::Tcp(addr),
            Some(ListenAddr::Vsock { cid, port }) => Self::Vsock { cid, port },
            unix => Self::Unix(UnixPeer { addr: unix.map(Arc::new), credentials: None }),
        }
    }
}

/// `127.0.0.1:41234`, `unix:/run/client.sock`, `unix (pid 12, uid 0, gid 0)`, `vsock:2:1024`; reads back as the same.
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
        let addr = self.addr.as_ref().map_or_else(|| UNNAMED.to_owned(), ToString::to_string);
        f.write_str(&addr)?;
        match self.credentials {
            Some(credentials) => write!(f, " ({credentials})"),
            // A client may have bound itself to a path that looks like the credentials of another process.
            None if addr.ends_with(')') => f.write_str(" ()"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for PeerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pid) = self.pid {
            write!(f, "pid {pid}, ")?;
        }
        write!(f, "uid {}, gid {}", self.uid, self.gid)
    }
}

/// Parses what [`Display`](fmt::Display) prints.
///
/// A client can bind itself to a path that looks like credentials. So text that ends with `)` always has its last pair
/// of parentheses read as credentials, and an address without them that ends so prints with ` ()` behind it.
impl FromStr for PeerAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (addr, credentials) = match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
            Some((addr, credentials)) => (addr, parse_credentials(credentials)),
            None => (text, Some(None)),
        };
        let unix = |addr: Option<ListenAddr>| {
            let credentials = credentials.ok_or_else(|| no_peer(text))?;
            Ok(Self::Unix(UnixPeer { addr: addr.map(Arc::new), credentials }))
        };
        match addr {
            UNNAMED => unix(None),
            _ => match addr.parse()? {
                addr @ (ListenAddr::Unix(_) | ListenAddr::Abstract(_)) => unix(Some(addr)),
                ListenAddr::Tcp(tcp) if addr == text => Ok(Self::Tcp(tcp)),
                ListenAddr::Vsock { cid, port } if addr == text => Ok(Self::Vsock { cid, port }),
                _ => Err(no_peer(text)),
            },
        }
    }
}

/// `None` for what are no credentials.
fn parse_credentials(text: &str) -> Option<Option<PeerCredentials>> {
    if text.is_empty() {
        return Some(None);
    }
    let (pid, rest) = match text.strip_prefix("pid ") {
        Some(text) => {
            let (pid, rest) = text.split_once(", ")?;
            (Some(pid.parse().ok()?), rest)
        }
        None => (None, text),
    };
    let (uid, gid) = rest.strip_prefix("uid ")?.split_once(", gid ")?;
    Some(Some(PeerCredentials { pid, uid: uid.parse().ok()?, gid: gid.parse().ok()? }))
}

fn no_peer(text: &str) -> Error {
    Kind::Address { text: text.to_owned(), problem: "that is not who can be at the other end".to_owned() }.into()
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
        assert_eq!(PeerAddr::Unix(unix.clone()).to_string(), "unix (pid 7, uid 1, gid 2)");
        unix.addr = Some(Arc::new("@me".parse().unwrap()));
        unix.credentials = Some(PeerCredentials { pid: None, uid: 1, gid: 2 });
        let unix = PeerAddr::Unix(unix);
        assert_eq!(unix.to_string(), "@me (uid 1, gid 2)");
        assert_eq!((unix.ip(), unix.credentials().map(|peer| peer.gid)), (None, Some(2)));
        assert_eq!(PeerAddr::Vsock { cid: 2, port: 3 }.to_string(), "vsock:2:3");
    }

    #[cfg(feature = "handoff")]
    #[test]
    fn every_form_round_trips() {
        for text in [
            "127.0.0.1:41234",
            "[::1]:80",
            "[fe80::1%2]:80",
            "vsock:2:1024",
            "unix",
            "unix (pid 12, uid 0, gid 7)",
            "unix:/run/client.sock",
            "unix:/run/client.sock (uid 4294967295, gid 0)",
            "@me (pid 1, uid 2, gid 3)",
        ] {
            let peer: PeerAddr = text.parse().unwrap();
            assert_eq!(peer.to_string(), text);
            let json = serde_json::to_string(&peer).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<PeerAddr>(&json).unwrap(), peer);
            assert_eq!(through_bytes(&peer), peer);
        }
    }

    #[cfg(feature = "handoff")]
    #[test]
    fn the_path_of_a_client_gives_it_no_credentials() {
        for path in ["/a (pid 1, uid 0, gid 0)", "/a ()", "/a)", "/a ("] {
            let peer = PeerAddr::Unix(UnixPeer { addr: Some(Arc::new(path.parse().unwrap())), credentials: None });
            assert_eq!(peer.to_string().parse::<PeerAddr>().unwrap(), peer);
            assert_eq!(through_bytes(&peer), peer);
        }
    }

    #[cfg(feature = "handoff")]
    #[test]
    fn what_is_no_text_travels_in_bytes_alone() {
        use std::os::unix::ffi::OsStringExt;
        let path = std::ffi::OsString::from_vec(b"/\xff".to_vec());
        for addr in [ListenAddr::Unix(path.into()), ListenAddr::Abstract(b"a\0".to_vec())] {
            let peer = PeerAddr::Unix(UnixPeer { addr: Some(Arc::new(addr)), credentials: None });
            assert_eq!(through_bytes(&peer), peer);
            assert!(serde_json::to_string(&peer).unwrap_err().to_string().contains("does not read back"));
        }
    }

    #[test]
    fn what_no_peer_can_be_is_an_error() {
        for text in ["", ":80", "localhost:80", "&http", "unix (root)", "unix (pid x, uid 1, gid 2)", "127.0.0.1:1 ()"]
        {
            assert!(text.parse::<PeerAddr>().unwrap_err().is_invalid_address(), "{text}");
        }
    }

    #[cfg(feature = "handoff")]
    fn through_bytes(peer: &PeerAddr) -> PeerAddr {
        postcard::from_bytes(&postcard::to_allocvec(peer).unwrap()).unwrap()
    }
}
