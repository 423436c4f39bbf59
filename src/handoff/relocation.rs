//! Listeners that the new process does not go on with, as it has another address.

use serde::{Deserialize, Serialize};

use crate::activation::MovedListener;

/// New to old, before `Ready`: close these when new serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    listeners: Vec<MovedRecord>,
}

/// A listener of old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MovedRecord {
    name: String,
    address: String,
}

impl Moved {
    pub(crate) fn new(listeners: Vec<MovedListener>) -> Self {
        let record = |MovedListener { name, address }| MovedRecord { name, address };
        Self { listeners: listeners.into_iter().map(record).collect() }
    }

    pub(crate) fn into_listeners(self) -> Vec<MovedListener> {
        let listener = |MovedRecord { name, address }| MovedListener { name, address };
        self.listeners.into_iter().map(listener).collect()
    }
}
