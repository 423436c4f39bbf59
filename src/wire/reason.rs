//! Why a connection comes back to the process that sent it.

use std::sync::Arc;

/// Why a connection comes back to the process that wanted to be rid of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReturnReason {
    /// The successor did not take it.
    Refused(Arc<str>),
    /// It cannot be sent.
    Unsendable(Arc<str>),
    /// The successor takes no more, as it stops itself.
    Leaving,
    /// The successor is no more.
    Died,
}
