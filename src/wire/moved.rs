//! Listeners whose address changes with the handoff: the new process has bound another one.

use serde::{Deserialize, Serialize};

/// New to old, before `Ready`: close these listeners when the new process serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) listeners: Vec<ReplacedListener>,
}

/// A listener of the old process that the new one does not go on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplacedListener {
    pub(crate) name: String,
    /// The address that the old process has.
    pub(crate) address: String,
}
