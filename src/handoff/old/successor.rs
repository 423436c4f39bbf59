//! A handoff that cannot be called off any more.

use crate::{
    handoff::spawn::started::StartedProcess,
    sys::process::Process,
    wire::{moved::ReplacedListener, offer::Committed},
};

/// The new process, which accepts. Only its death brings this process back.
#[derive(Debug)]
pub(crate) struct Successor {
    /// Its process id; 0 if it cannot be seen from this pid namespace.
    pub(crate) pid: u32,
    /// The listeners that it does not go on with, as it has another address.
    pub(crate) replaced: Vec<ReplacedListener>,
    /// `None` for a plain successor, which takes nothing but the listeners.
    pub(crate) transfer: Option<Transfer>,
}

impl Successor {
    /// A plain successor, which accepts already: it lives by itself from now on.
    pub(super) fn plain(started: StartedProcess) -> Self {
        let pid = started.pid();
        drop(started.leave());
        Self { pid, replaced: Vec::new(), transfer: None }
    }
}

/// What connections and the final state go through.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(super) committed: Committed,
    /// `None` if the kernel does not show it.
    pub(super) process: Option<Process>,
}
