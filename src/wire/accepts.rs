//! What the new process takes beside idle HTTP/1 connections.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::records::with_lengths;
use crate::idle_connection::{self, Protocol};

/// The most listeners of one message: their names may be long.
const MOST_RECORDS: usize = 64;

/// The most listeners of which the old process remembers what the new one takes.
const MOST_LISTENERS: usize = 4096;

/// New to old, before `Ready`: `CarriedConnections` may be sent of these listeners. Several such
/// messages add to each other. A process that sends none takes none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accepts {
    #[serde(with = "with_lengths")]
    pub(crate) listeners: Vec<AcceptsRecord>,
}

/// What it takes of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AcceptsRecord {
    pub(crate) name: String,
    /// It takes HTTP/2 connections without an open stream.
    pub(crate) http2: bool,
    /// It takes exchanges that a handler resumes.
    pub(crate) resumable: bool,
}

/// What the process at the other end takes, by listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct SuccessorAccepts(Vec<(String, idle_connection::Accepts)>);

impl SuccessorAccepts {
    /// Adds what has come in a message.
    pub(super) fn add(&mut self, message: Accepts) {
        let room = MOST_LISTENERS.saturating_sub(self.0.len());
        let entry = |AcceptsRecord { name, http2, resumable }: AcceptsRecord| {
            (name, idle_connection::Accepts { http2, resumable })
        };
        self.0.extend(message.listeners.into_iter().take(room).map(entry));
    }

    /// What it takes of `listener`.
    pub(super) fn of(&self, listener: &str) -> idle_connection::Accepts {
        let entry = self.0.iter().find(|(name, _)| name == listener);
        entry.map(|(_, accepts)| *accepts).unwrap_or_default()
    }

    /// Whether a connection of `listener` may be sent that speaks `protocol`.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub(super) fn check(&self, listener: &str, protocol: &Protocol) -> Result<(), &'static str> {
        match protocol.carried() {
            Some(_) => self.of(listener).check(protocol),
            None => Ok(()),
        }
    }
}

/// The messages that say so of the listeners of this process.
pub(super) fn messages(accepts: &[(Arc<str>, idle_connection::Accepts)]) -> impl Iterator<Item = Accepts> {
    let record = |(name, accepts): &(Arc<str>, idle_connection::Accepts)| AcceptsRecord {
        name: name.as_ref().to_owned(),
        http2: accepts.http2,
        resumable: accepts.resumable,
    };
    accepts.chunks(MOST_RECORDS).map(move |part| Accepts { listeners: part.iter().map(record).collect() })
}

#[cfg(any(test, fuzzing))]
impl From<Vec<(String, idle_connection::Accepts)>> for SuccessorAccepts {
    fn from(accepts: Vec<(String, idle_connection::Accepts)>) -> Self {
        Self(accepts)
    }
}
