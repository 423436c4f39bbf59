//! A connection on which nothing happens, on its way from one process to the next.

use std::{any::Any, fmt, os::fd::OwnedFd, sync::Arc};

use bytes::Bytes;

use crate::addr::PeerAddr;

/// The most bytes ahead that a connection may take along.
pub(crate) const LONGEST_AHEAD: usize = 16 * 1024 * 1024;

/// A connection that can move without anything being lost.
pub(crate) struct IdleConnection {
    /// The name of the listener that accepted it.
    pub(crate) listener: Arc<str>,
    pub(crate) stream: OwnedFd,
    pub(crate) peer: PeerAddr,
    /// Read and not parsed: to be replayed first.
    pub(crate) ahead: Bytes,
    /// No protocol told apart yet.
    pub(crate) fresh: bool,
    /// What the old process holds for it: dropped when somebody else has the connection, and comes back with it otherwise.
    pub(crate) keep: Option<Box<dyn Any + Send>>,
}

impl fmt::Debug for IdleConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleConnection")
            .field("listener", &self.listener)
            .field("stream", &self.stream)
            .field("peer", &self.peer)
            .field("ahead", &self.ahead.len())
            .field("fresh", &self.fresh)
            .finish_non_exhaustive()
    }
}
