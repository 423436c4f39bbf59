//! An address that is asked for, with its host name looked up.
//!
//! A lookup may block for as long as DNS takes (`resolv.conf(5)`: 5 s a try by default). The set of sockets is locked
//! while addresses are compared, so the lookup is done once, before the lock, and its answer is kept here.

use std::{io, net::SocketAddr};

use super::ListenAddr;

/// An address whose host name has been looked up. To compare it and to bind it never waits for DNS.
#[derive(Debug)]
pub(crate) struct AskedAddr {
    addr: ListenAddr,
    /// The IP addresses to try, in order. It is empty for what is no IP address. A failed lookup is kept, as it is an
    /// error only where the address has to be bound.
    candidates: io::Result<Vec<SocketAddr>>,
}

impl AskedAddr {
    /// Looks up a host name, which may block for as long as DNS takes. No lock may be held meanwhile.
    pub(crate) fn look_up(addr: ListenAddr) -> Self {
        let candidates = addr.resolve();
        Self { addr, candidates }
    }

    /// Looks nothing up: for an address that is not going to be bound or compared, as a socket was passed under its
    /// name.
    ///
    /// A host name then has no candidates, so it matches no socket.
    pub(crate) fn unasked(addr: ListenAddr) -> Self {
        match addr {
            ListenAddr::Host { .. } => Self { addr, candidates: Ok(Vec::new()) },
            addr => Self::look_up(addr),
        }
    }

    pub(crate) fn addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// The IP addresses to try.
    ///
    /// # Errors
    ///
    /// The host name could not be looked up. The error is a copy, as an [`io::Error`] cannot be cloned.
    pub(crate) fn candidates(&self) -> io::Result<&[SocketAddr]> {
        match &self.candidates {
            Ok(candidates) => Ok(candidates),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }

    /// Whether a socket that is bound to `bound` is what a program that asks for this means, see [`ListenAddr::is_same_at`].
    pub(crate) fn is_same_as(&self, bound: &ListenAddr) -> bool {
        self.addr.is_same_at(self.candidates.as_deref().unwrap_or_default(), bound)
    }

    /// Whether both cannot be bound at a time: they are the same address, or both are IP addresses with one port.
    pub(crate) fn overlaps(&self, bound: &ListenAddr) -> bool {
        self.addr.has_port_of(bound) || self.is_same_as(bound)
    }
}
