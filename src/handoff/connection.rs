//! A connection on its way to the successor, and why one comes back.

use std::sync::Arc;

pub(crate) use crate::transit::{IdleConnection, LONGEST_AHEAD};

/// Why a connection comes back to the process that wanted to be rid of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The successor did not take it.
    Refused(Arc<str>),
    /// It cannot be sent.
    Unsendable(Arc<str>),
    /// The successor takes no more, as it stops itself.
    Leaving,
    /// The successor is no more.
    Died,
}
