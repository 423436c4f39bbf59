//! Listeners that the new process does not go on with, as it has another address.

use serde::{Deserialize, Serialize};

/// New to old, before `Ready`: close these when new serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) listeners: Vec<MovedListener>,
}

/// A listener of the old process that the new one does not go on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MovedListener {
    pub(crate) name: String,
    /// The address that the old process has.
    pub(crate) address: String,
}
