//! The link to the process that serves before this one, from the start of this process until the service joins the
//! handoff.
//!
//! A program reads its environment early and joins late, after it has filled its caches. In between the link waits
//! here. Dropped, it closes the control socket, and the old process takes that for the end of this one: it serves on.

use std::{os::fd::OwnedFd, path::PathBuf};

use crate::wire::{join::Joined, moved::ReplacedListener, peers::Peers, socket_path::BoundSocketPath};

/// The process that serves before this one, and waits for it.
#[derive(Debug)]
pub(crate) enum Predecessor {
    /// It has spawned this process and left it this control socket, on which nothing has been sent.
    Spawn(OwnedFd),
    /// This process has found it at the path of the handoff, and has received what it offers.
    Rendezvous(Box<Joined>),
}

/// What a set knows of the handoff to this process, and of the one from it.
#[derive(Debug, Default)]
pub(super) struct HandoffLink {
    /// `None` where there is none, and once the service has taken it.
    pub(super) predecessor: Option<Predecessor>,
    /// The listeners of the predecessor that this process does not go on with.
    pub(super) replaced: Vec<ReplacedListener>,
    /// The path at which the next process finds this one.
    pub(super) path: Option<PathBuf>,
    /// The socket there, where this process is the first: until the service listens to it.
    pub(super) bound: Option<BoundSocketPath>,
    /// The users of the other processes of this service.
    pub(super) peers: Peers,
}
