//! [`PeerAddr`] under serde: its text where people read it, and a few exact bytes where programs do.
//!
//! A connection that moves to another process takes its peer along in `postcard`. Text would lose paths and names that
//! are not UTF-8, and the client chooses those.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::unix::ffi::{OsStrExt, OsStringExt},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{ListenAddr, PeerAddr, PeerCredentials, UnixPeer};

/// As text in formats for people, which is an error for a path that is no UTF-8; exact in all others.
impl Serialize for PeerAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return Compact::from(self).serialize(serializer);
        }
        let text = self.to_string();
        if !Self::from_str(&text).is_ok_and(|read| read == *self) {
            return Err(ser::Error::custom(format_args!("the address {text} does not read back as the same")));
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for PeerAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Compact::deserialize(deserializer)?.try_into().map_err(de::Error::custom);
        }
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The binary form. Variants are added at the end and never reordered: two processes of different builds speak it.
#[derive(Serialize, Deserialize)]
enum Compact {
    V4([u8; 4], u16),
    V6 { ip: [u8; 16], port: u16, flow: u32, scope: u32 },
    Unix { addr: Option<CompactUnix>, credentials: Option<CompactCredentials> },
    Vsock { cid: u32, port: u32 },
}

#[derive(Serialize, Deserialize)]
enum CompactUnix {
    Path(Vec<u8>),
    Abstract(Vec<u8>),
    /// What no kernel gives today, as text.
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct CompactCredentials {
    pid: Option<i32>,
    uid: u32,
    gid: u32,
}

impl From<&PeerAddr> for Compact {
    fn from(peer: &PeerAddr) -> Self {
        match peer {
            PeerAddr::Tcp(SocketAddr::V4(addr)) => Self::V4(addr.ip().octets(), addr.port()),
            PeerAddr::Tcp(SocketAddr::V6(addr)) => {
                Self::V6 { ip: addr.ip().octets(), port: addr.port(), flow: addr.flowinfo(), scope: addr.scope_id() }
            }
            PeerAddr::Unix(UnixPeer { addr, credentials }) => Self::Unix {
                addr: addr.as_deref().map(CompactUnix::from),
                credentials: credentials.map(|PeerCredentials { pid, uid, gid }| CompactCredentials { pid, uid, gid }),
            },
            PeerAddr::Vsock { cid, port } => Self::Vsock { cid: *cid, port: *port },
        }
    }
}

impl From<&ListenAddr> for CompactUnix {
    fn from(addr: &ListenAddr) -> Self {
        match addr {
            ListenAddr::Unix(path) => Self::Path(path.as_os_str().as_bytes().to_owned()),
            ListenAddr::Abstract(name) => Self::Abstract(name.clone()),
            other => Self::Text(other.to_string()),
        }
    }
}

impl TryFrom<Compact> for PeerAddr {
    type Error = crate::error::Error;

    fn try_from(compact: Compact) -> Result<Self, Self::Error> {
        Ok(match compact {
            Compact::V4(ip, port) => Self::Tcp((Ipv4Addr::from(ip), port).into()),
            Compact::V6 { ip, port, flow, scope } => {
                Self::Tcp(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
            }
            Compact::Unix { addr, credentials } => Self::Unix(UnixPeer {
                addr: addr.map(ListenAddr::try_from).transpose()?.map(Arc::new),
                credentials: credentials.map(|CompactCredentials { pid, uid, gid }| PeerCredentials { pid, uid, gid }),
            }),
            Compact::Vsock { cid, port } => Self::Vsock { cid, port },
        })
    }
}

impl TryFrom<CompactUnix> for ListenAddr {
    type Error = crate::error::Error;

    fn try_from(compact: CompactUnix) -> Result<Self, Self::Error> {
        Ok(match compact {
            CompactUnix::Path(path) => Self::Unix(OsString::from_vec(path).into()),
            CompactUnix::Abstract(name) => Self::Abstract(name),
            CompactUnix::Text(text) => text.parse()?,
        })
    }
}
