//! A connection on its way from one process to the next.

use std::{any::Any, fmt, os::fd::OwnedFd, sync::Arc};

use hyper::body::Bytes;

use crate::addr::PeerAddr;

/// A connection on which nothing is under way but, perhaps, the beginning of a head.
pub(crate) struct IdleConnection {
    /// The name of the listener that it came through.
    pub(crate) listener: Arc<str>,
    pub(crate) stream: OwnedFd,
    pub(crate) peer: PeerAddr,
    /// Read and not parsed: comes before all that is still to be read.
    pub(crate) ahead: Bytes,
    /// It is not known yet which protocol the client speaks; otherwise it is HTTP/1.
    pub(crate) fresh: bool,
    /// What its sender holds for it: dropped when it is taken, given back with it otherwise.
    pub(crate) keep: Option<Box<dyn Any + Send>>,
}

impl fmt::Debug for IdleConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleConnection")
            .field("listener", &self.listener)
            .field("peer", &self.peer)
            .field("ahead", &self.ahead.len())
            .field("fresh", &self.fresh)
            .finish_non_exhaustive()
    }
}
