//! Where to listen: the text form of addresses, and when two addresses mean the same socket.
//!
//! The text form follows `ListenStream=` of `systemd.socket(5)`, but for a port alone, which has a colon before it
//! here. It adds host names and `&name`. Every form that parses prints as text that parses to the same address.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde_core::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use socket2::SockAddr;

use crate::error::{Error, Kind};

/// `VMADDR_CID_ANY` of `vsock(7)`: every context id of this machine.
const VSOCK_ANY: u32 = u32::MAX;

/// Where to listen.
///
/// It is parsed from and printed as one of these forms:
///
/// | text | listens on |
/// | --- | --- |
/// | `127.0.0.1:8080`, `[::1]:8080` | that address |
/// | `localhost:8080` | the first address the name resolves to that can be bound |
/// | `:8080` | every address, IPv6 and IPv4 |
/// | `unix:/run/app.sock`, `/run/app.sock` | that path |
/// | `@app` | that name in Linux's abstract namespace, `unix(7)` |
/// | `vsock:3:8080`, `vsock::8080` | that port of `vsock(7)`, on one context id or on any |
/// | `&http` | the socket that was passed under that name |
///
/// Port 0 lets the kernel choose a free port. [`local_addrs`](crate::ActivatedListener::local_addrs) then says which
/// one it is.
///
/// As a string it is a field of a serde structure, and an argument of clap:
///
/// ```
/// use axum_activation::ListenAddr;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Config {
///     listen: ListenAddr,
/// }
///
/// let config: Config = serde_json::from_str(r#"{ "listen": "unix:/run/app.sock" }"#)?;
/// assert_eq!(config.listen, ListenAddr::Unix("/run/app.sock".into()));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// It also comes from the types of the standard library:
///
/// ```
/// use std::{net::SocketAddr, path::Path};
/// use axum_activation::ListenAddr;
///
/// assert_eq!(ListenAddr::from(SocketAddr::from(([127, 0, 0, 1], 80))).to_string(), "127.0.0.1:80");
/// assert_eq!(ListenAddr::from(Path::new("/run/app.sock")).to_string(), "unix:/run/app.sock");
/// assert_eq!(ListenAddr::try_from(":8080")?, ListenAddr::Port(8080));
/// # Ok::<(), axum_activation::Error>(())
/// ```
///
/// Two forms are read as errors on purpose, as they are most often mistakes: a port without a colon (`8080`), and a URL
/// (`http://localhost:8080`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddr {
    /// An IP address and a port. An IPv6 address is written in brackets, with its scope if it has one:
    /// `[fe80::1%2]:80`.
    Tcp(SocketAddr),
    /// A host name and a port. The name is looked up when it is bound, and its addresses are tried in order.
    Host {
        /// What `getaddrinfo(3)` is asked for.
        name: String,
        /// The port.
        port: u16,
    },
    /// A port on every address: one IPv6 socket that takes IPv4 too, or an IPv4 socket where the kernel has no IPv6.
    Port(u16),
    /// A Unix socket in the file system. A relative path is relative to the working directory.
    Unix(PathBuf),
    /// A Unix socket in the abstract namespace, without the leading NUL. Any process of the network namespace can
    /// connect to it.
    Abstract(Vec<u8>),
    /// A vsock port. To bind it takes the feature `vsock`.
    Vsock {
        /// The context id; `u32::MAX` is any.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// A socket that was passed under this name. It cannot be bound, so it is no address of a fallback.
    Named(String),
}

impl ListenAddr {
    /// The IP address and the port, if that is what it is: always so for a TCP socket that is bound.
    ///
    /// `None` for a Unix or vsock address, and for one that is still to be looked up.
    ///
    /// ```
    /// use axum_activation::ListenAddr;
    ///
    /// let addr: ListenAddr = "127.0.0.1:8080".parse()?;
    /// assert_eq!(addr.socket_addr().map(|addr| addr.port()), Some(8080));
    /// assert_eq!("unix:/run/app.sock".parse::<ListenAddr>()?.socket_addr(), None);
    /// # Ok::<_, axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            _ => None,
        }
    }

    /// The address as the kernel gives it, or `None` for a family that HTTP is not served on.
    pub(crate) fn from_kernel(addr: &SockAddr) -> Option<Self> {
        if let Some(tcp) = addr.as_socket() {
            return Some(Self::Tcp(tcp));
        }
        if let Some(path) = addr.as_pathname() {
            return Some(Self::Unix(path.to_owned()));
        }
        if let Some(name) = addr.as_abstract_namespace() {
            return Some(Self::Abstract(name.to_owned()));
        }
        #[cfg(target_os = "linux")]
        if let Some((cid, port)) = addr.as_vsock_address() {
            return Some(Self::Vsock { cid, port });
        }
        None
    }

    /// Whether a socket that is bound to `bound` is the one that a program means with `self`.
    ///
    /// - Wildcards compare equal, of either family.
    /// - An IPv4 address is the same as that address mapped into IPv6.
    /// - A Unix path is the same by name or by inode.
    /// - Port 0 asks for a fresh port, so it matches nothing.
    ///
    /// `candidates` are the addresses that `self` [resolves](Self::resolve) to.
    pub(super) fn is_same_at(&self, candidates: &[SocketAddr], bound: &Self) -> bool {
        match (self, bound) {
            (Self::Tcp(_) | Self::Host { .. } | Self::Port(_), Self::Tcp(bound)) => {
                candidates.iter().any(|asked| same_endpoint(*asked, *bound))
            }
            (Self::Unix(asked), Self::Unix(bound)) => asked == bound || same_file(asked, bound),
            _ => self == bound,
        }
    }

    /// Whether both have one port. Then both cannot be bound, as a wildcard is in the way of every other address.
    pub(super) fn has_port_of(&self, bound: &Self) -> bool {
        self.port().is_some_and(|asked| bound.port() == Some(asked))
    }

    /// The port of an IP address.
    fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(addr) => Some(addr.port()),
            Self::Host { port, .. } | Self::Port(port) => Some(*port),
            _ => None,
        }
    }

    /// The IP addresses to try, in order. It is empty for what is no IP address. A host name is looked up, which may
    /// block.
    ///
    /// # Errors
    ///
    /// `getaddrinfo(3)` does not know the name, or DNS does not answer.
    pub(super) fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok(match self {
            Self::Tcp(addr) => vec![*addr],
            Self::Port(port) => {
                vec![(Ipv6Addr::UNSPECIFIED, *port).into(), (Ipv4Addr::UNSPECIFIED, *port).into()]
            }
            Self::Host { name, port } => (name.as_str(), *port).to_socket_addrs()?.collect(),
            _ => Vec::new(),
        })
    }

    /// Whether text made of it reads back as the same address. A path need not be UTF-8, and an abstract name may
    /// contain NULs.
    fn is_text(&self) -> bool {
        match self {
            Self::Unix(path) => path.to_str().is_some(),
            Self::Abstract(name) => std::str::from_utf8(name).is_ok_and(|name| !name.contains('\0')),
            _ => true,
        }
    }
}

impl FromStr for ListenAddr {
    type Err = Error;

    /// Parses any of the forms of the table at [`ListenAddr`].
    ///
    /// # Errors
    ///
    /// The text has none of the forms ([`Error::is_invalid_address`]). The message says what is wrong, and how it is
    /// written where that can be guessed.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|problem| {
            let write = suggestion(text).map_or(String::new(), |right| format!(", write {right}"));
            Kind::Address { text: text.to_owned(), problem: format!("{problem}{write}") }.into()
        })
    }
}

/// As [`FromStr`].
impl TryFrom<&str> for ListenAddr {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

/// As [`FromStr`].
impl TryFrom<String> for ListenAddr {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl From<PathBuf> for ListenAddr {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl From<&Path> for ListenAddr {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Port(port) => write!(f, ":{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
            Self::Vsock { cid: VSOCK_ANY, port } => write!(f, "vsock::{port}"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Named(name) => write!(f, "&{name}"),
        }
    }
}

impl Serialize for ListenAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.is_text() {
            return Err(ser::Error::custom(format_args!("the address {self} is not valid UTF-8")));
        }
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn parse(text: &str) -> Result<ListenAddr, &'static str> {
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_path(path);
    }
    if text.starts_with('/') {
        return parse_path(text);
    }
    if let Some(name) = text.strip_prefix('@') {
        return parse_abstract(name);
    }
    if let Some(rest) = text.strip_prefix("vsock:") {
        return parse_vsock(rest);
    }
    match text.strip_prefix('&') {
        Some(name) => Ok(ListenAddr::Named(name.to_owned())),
        None => parse_tcp(text),
    }
}

fn parse_path(path: &str) -> Result<ListenAddr, &'static str> {
    match path {
        "" => Err("the path is missing"),
        _ if path.contains('\0') => Err("a path cannot contain a NUL byte"),
        _ if path.starts_with('@') => Err("an abstract socket is written @name, a file of that name unix:./@name"),
        _ => Ok(ListenAddr::Unix(path.into())),
    }
}

fn parse_abstract(name: &str) -> Result<ListenAddr, &'static str> {
    match name {
        "" => Err("the abstract name is missing"),
        _ if name.contains('\0') => Err("an abstract name cannot contain a NUL byte here"),
        _ => Ok(ListenAddr::Abstract(name.into())),
    }
}

fn parse_vsock(text: &str) -> Result<ListenAddr, &'static str> {
    let (cid, port) = text.split_once(':').ok_or("the port is missing")?;
    let cid = match cid {
        "" => VSOCK_ANY,
        _ => number(cid).ok_or("the context id is no number up to 4294967295")?,
    };
    let port = number(port).ok_or("the port is no number up to 4294967295")?;
    Ok(ListenAddr::Vsock { cid, port })
}

fn parse_tcp(text: &str) -> Result<ListenAddr, &'static str> {
    if let Ok(addr) = text.parse() {
        return Ok(ListenAddr::Tcp(addr));
    }
    if text.starts_with('[') && text.ends_with(']') {
        return Err("the port is missing");
    }
    let (host, port) = text.rsplit_once(':').ok_or(match number::<u64>(text) {
        Some(_) => "a port alone has a colon before it",
        None => "the port is missing",
    })?;
    let port = number(port).ok_or("the port is no number up to 65535")?;
    match host {
        "" => Ok(ListenAddr::Port(port)),
        _ if host.contains(['[', ']']) => Err("what stands in brackets is no IPv6 address"),
        _ if host.contains("//") => Err("that is a URL, leave its scheme away"),
        _ if looks_like_ipv6(host) => Err("an IPv6 address is written in brackets"),
        _ if !host.bytes().all(is_host_byte) => Err("that is no host name"),
        _ if looks_like_ipv4(host) => Err("that is no IPv4 address"),
        _ => Ok(ListenAddr::Host { name: host.to_owned(), port }),
    }
}

/// How an IP address, a host name or a port is written that lacks something.
fn suggestion(text: &str) -> Option<String> {
    let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    match text.rsplit_once(':') {
        Some((host, port)) if is_ipv6(host) && number::<u16>(port).is_some() => Some(format!("[{host}]:{port}")),
        _ if is_ipv6(text) => Some(format!("[{text}]:8080")),
        _ if text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).is_some_and(is_ipv6) => {
            Some(format!("{text}:8080"))
        }
        None if number::<u16>(text).is_some() => Some(format!(":{text}")),
        None => parse(&format!("{text}:8080")).ok().filter(|addr| addr.port().is_some()).map(|addr| addr.to_string()),
        _ => None,
    }
}

/// A number in digits alone: no sign, no blanks.
fn number<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Resolvers take `127.1` and `0x7f.1` for addresses; a name whose last label is a number is a mistyped one.
fn looks_like_ipv4(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|label| number::<u64>(label).is_some())
}

fn looks_like_ipv6(host: &str) -> bool {
    host.contains(':') && host.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') || !byte.is_ascii()
}

fn same_endpoint(asked: SocketAddr, bound: SocketAddr) -> bool {
    let (asked_ip, bound_ip) = (asked.ip().to_canonical(), bound.ip().to_canonical());
    let same_ip = asked_ip == bound_ip || (asked_ip.is_unspecified() && bound_ip.is_unspecified());
    asked.port() != 0 && asked.port() == bound.port() && same_ip
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ListenAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_round_trips() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "[fe80::1%2]:80",
            "0.0.0.0:0",
            "localhost:8080",
            "my-host.example:1",
            ":8080",
            "unix:/run/app.sock",
            "unix:relative.sock",
            "@abstract",
            "vsock:3:8080",
            "vsock::8080",
            "&http",
            "&",
        ] {
            let addr = parsed(text);
            assert_eq!(addr.to_string(), text);
            assert_eq!(parsed(&addr.to_string()), addr);
            let json = serde_json::to_string(&addr).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<ListenAddr>(&json).unwrap(), addr);
        }
        assert_eq!(parsed("/run/app.sock"), parsed("unix:/run/app.sock"));
        assert_eq!(parsed("vsock:4294967295:1").to_string(), "vsock::1");
    }

    #[test]
    fn a_malformed_address_says_what_is_wrong_with_it() {
        for (text, problem) in [
            ("", "the port is missing, write :8080"),
            ("localhost", "the port is missing, write localhost:8080"),
            ("127.0.0.1", "the port is missing, write 127.0.0.1:8080"),
            ("[::1]", "the port is missing, write [::1]:8080"),
            ("[::]", "the port is missing, write [::]:8080"),
            ("[nonsense]", "the port is missing"),
            ("::1", "an IPv6 address is written in brackets, write [::1]:8080"),
            ("localhost:", "the port is no number up to 65535"),
            ("localhost:http", "the port is no number up to 65535"),
            ("localhost:65536", "the port is no number up to 65535"),
            ("localhost:+80", "the port is no number up to 65535"),
            ("::1:80", "an IPv6 address is written in brackets, write [::1]:80"),
            ("[::1:80", "what stands in brackets is no IPv6 address"),
            ("[nonsense]:80", "what stands in brackets is no IPv6 address"),
            ("256.0.0.1:80", "that is no IPv4 address"),
            ("127.1:80", "that is no IPv4 address"),
            ("a b:80", "that is no host name"),
            ("fe80::1:80", "an IPv6 address is written in brackets, write [fe80::1]:80"),
            ("::ffff:127.0.0.1:80", "an IPv6 address is written in brackets, write [::ffff:127.0.0.1]:80"),
            ("http://x:80", "that is a URL, leave its scheme away"),
            ("tcp:127.0.0.1:80", "that is no host name"),
            ("8080", "a port alone has a colon before it, write :8080"),
            ("unix:", "the path is missing"),
            ("unix:@x", "an abstract socket is written @name, a file of that name unix:./@name"),
            ("/a\0b", "a path cannot contain a NUL byte"),
            ("@", "the abstract name is missing"),
            ("@a\0", "an abstract name cannot contain a NUL byte here"),
            ("vsock:1", "the port is missing"),
            ("vsock:x:1", "the context id is no number up to 4294967295"),
            ("vsock:1:", "the port is no number up to 4294967295"),
        ] {
            let error = text.parse::<ListenAddr>().unwrap_err();
            assert!(error.is_invalid_address());
            assert!(error.to_string().starts_with(&format!("{text:?} is no address: {problem}; ")), "{error}");
        }
        assert!(serde_json::from_str::<ListenAddr>("\"nonsense\"").is_err());
    }

    #[test]
    fn conversions_keep_the_address() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 80));
        assert_eq!(ListenAddr::from(addr), parsed("127.0.0.1:80"));
        assert_eq!(ListenAddr::from(Path::new("/a")), ListenAddr::from(PathBuf::from("/a")));
        assert_eq!(ListenAddr::try_from("/a".to_owned()).unwrap(), ListenAddr::try_from("/a").unwrap());
    }

    #[test]
    fn an_address_that_is_no_text_is_not_serialized() {
        use std::os::unix::ffi::OsStringExt;
        let path = PathBuf::from(std::ffi::OsString::from_vec(b"/\xff".to_vec()));
        assert!(serde_json::to_string(&ListenAddr::Unix(path)).is_err());
        assert!(serde_json::to_string(&ListenAddr::Abstract(b"a\0".to_vec())).is_err());
    }

    #[test]
    fn wildcards_and_mapped_addresses_mean_the_same_socket() {
        for (asked, bound, same) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "[::]:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            (":80", "0.0.0.0:80", true),
            (":80", "[::]:80", true),
            (":80", "127.0.0.1:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("0.0.0.0:0", "0.0.0.0:0", false),
            ("localhost:80", "127.0.0.1:80", true),
            ("/a", "/a", true),
            ("/dev/null", "/dev/../dev/null", true),
            ("/no/such/a", "/no/such/b", false),
            ("@a", "@a", true),
            ("@a", "/a", false),
            ("vsock::1", "vsock::1", true),
        ] {
            let addr = parsed(asked);
            let candidates = addr.resolve().unwrap();
            assert_eq!(addr.is_same_at(&candidates, &parsed(bound)), same, "{asked} for {bound}");
        }
    }
}
