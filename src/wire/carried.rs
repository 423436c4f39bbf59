//! A connection whose protocol has a record of its own.

use serde::{Deserialize, Serialize};

use super::records::{ConnectionRecord, Payload, with_one_length};

/// One connection, with what the next process must know of its protocol.
///
/// The first field is behind a length of its own, so that a later version can add fields at its end, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CarriedRecord {
    #[serde(with = "with_one_length")]
    pub(crate) connection: ConnectionRecord,
    /// Which protocol it is.
    pub(crate) kind: u32,
    /// The record of that protocol, in `postcard`. It travels in the memfd right behind what was read ahead, if it is long.
    pub(crate) protocol: Payload,
}
