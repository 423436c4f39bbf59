//! Why a connection comes back from a handoff.

use std::sync::Arc;

/// Why a connection comes back to the old process. Only [`Died`](Self::Died) allows to serve it on. After every other reason it ends in
/// the old process: the new one accepts, or the service ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReturnReason {
    /// For that reason the new process did not take it, or is sent none any more as it has broken the protocol.
    Refused(Arc<str>),
    /// The new process has no room for now: it has taken none for too long.
    NoRoom,
    /// The new process has not said that it takes such a connection.
    NotTaken(&'static str),
    /// It cannot be sent, for that reason.
    Unsendable(Arc<str>),
    /// The new process stops, and takes no more.
    Leaving,
    /// The new process has ended. No other process has the connection.
    Died,
}
