//! What a caller asks for by name: a listener, a datagram socket, any file.
//!
//! The kernel says what a socket is. Where that is something else, the error names what was asked for, what is there,
//! and the setting of `systemd.socket(5)` that passes the right kind.

use super::slot::Slot;
use crate::{
    error::{Error, Kind},
    sys::socket::{SocketFamily, SocketKind},
};

pub(super) const STREAM: SocketRequirement = SocketRequirement {
    what: "a listener",
    matches: SocketKind::is_served_listener,
    remedy: "pass a listening stream socket (a connected one is served when it is all that was passed; ListenStream= in systemd.socket(5); vsock takes the feature `vsock`), or take \
             what is there with `files`, `udp` or `unix_datagram`",
};
/// The one connection of `Accept=yes`, which comes alone.
pub(super) const CONNECTION: SocketRequirement = SocketRequirement { matches: SocketKind::is_served, ..STREAM };
pub(super) const UDP: SocketRequirement = SocketRequirement {
    what: "a UDP socket",
    matches: |kind| matches!(kind, SocketKind::Datagram(SocketFamily::Ipv4 | SocketFamily::Ipv6)),
    remedy: "pass one with ListenDatagram=host:port",
};
pub(super) const UNIX_DATAGRAM: SocketRequirement = SocketRequirement {
    what: "a Unix datagram socket",
    matches: |kind| kind == SocketKind::Datagram(SocketFamily::Unix),
    remedy: "pass one with ListenDatagram=/path",
};
pub(super) const ANYTHING: SocketRequirement = SocketRequirement { what: "a file", matches: |_| true, remedy: "" };

/// A kind of socket that can be asked for.
#[derive(Debug)]
pub(super) struct SocketRequirement {
    pub(super) what: &'static str,
    pub(super) matches: fn(SocketKind) -> bool,
    pub(super) remedy: &'static str,
}

impl SocketRequirement {
    /// An error if `slot` is something else.
    pub(super) fn check(&self, slot: &Slot) -> Result<(), Error> {
        let found = slot.info.kind();
        if (self.matches)(found) {
            return Ok(());
        }
        let (name, address) = (slot.info.name().to_owned(), slot.info.addr().map(ToString::to_string));
        Err(Kind::WrongSocket { name, wanted: self.what, found, address, remedy: self.remedy }.into())
    }
}
