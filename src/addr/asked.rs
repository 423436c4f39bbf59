//! An address that is asked for, with its host name looked up.

use std::{io, net::SocketAddr};

use super::ListenAddr;

/// An address whose host name has been looked up, so that to compare and to bind it never waits for DNS.
#[derive(Debug)]
pub(crate) struct AskedAddr {
    addr: ListenAddr,
    /// The IP addresses to try, in order; none for what is no IP address.
    candidates: io::Result<Vec<SocketAddr>>,
}

impl AskedAddr {
    /// Looks up a host name, which may block for as long as DNS takes. No lock may be held meanwhile.
    pub(crate) fn look_up(addr: ListenAddr) -> Self {
        let candidates = addr.resolve();
        Self { addr, candidates }
    }

    /// Looks nothing up: for an address that is not going to be bound or compared.
    pub(crate) fn unasked(addr: ListenAddr) -> Self {
        match addr {
            ListenAddr::Host { .. } => Self { addr, candidates: Ok(Vec::new()) },
            addr => Self::look_up(addr),
        }
    }

    pub(crate) fn addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// The IP addresses to try, or why the name has none.
    pub(crate) fn candidates(&self) -> io::Result<&[SocketAddr]> {
        match &self.candidates {
            Ok(candidates) => Ok(candidates),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }

    /// Whether a socket that is bound to `bound` is what a program that asks for this means, see [`ListenAddr::means_at`].
    pub(crate) fn means(&self, bound: &ListenAddr) -> bool {
        self.addr.means_at(self.candidates.as_deref().unwrap_or_default(), bound)
    }

    /// Whether both cannot be bound.
    pub(crate) fn overlaps(&self, bound: &ListenAddr) -> bool {
        self.addr.has_port_of(bound) || self.means(bound)
    }
}
