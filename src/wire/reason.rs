//! Why a connection comes back from a handoff.

use std::sync::Arc;

/// Why a connection comes back to the old process, which then serves or closes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReturnReason {
    /// The new process did not take it, for that reason.
    Refused(Arc<str>),
    /// It cannot be sent, for that reason.
    Unsendable(Arc<str>),
    /// The new process stops, and takes no more.
    Leaving,
    /// The new process has ended. No other process has the connection.
    Died,
}
