//! The messages of the protocol. `packet.rs` says how one is written.
//!
//! # Versions
//!
//! The new process sends in [`Join`], and the old one in [`Hello`], which versions it speaks, from the oldest to the newest. Both then
//! speak the lower one of the two newest. `Join` and `Hello` themselves are the same in all versions.
//!
//! | version | [`Listeners`] | [`Connections`] | a record in a list |
//! | --- | --- | --- | --- |
//! | 1 | kind 2 | kind 6 | its fields, one after the other |
//! | 2 | kind 9 | kind 10 | its length (a varint), then its fields |
//!
//! All other messages are the same in both. A message that changes from version to version has another kind in each, so a packet can
//! be decoded without knowing which version is spoken.
//!
//! # What was added to version 2
//!
//! [`Accepts`] and [`CarriedConnections`] came later than version 2 itself, and have no version of their own. The new process sends `Accepts`
//! before `Ready`, and an older old process ignores it. The old process sends `CarriedConnections` only to a process that has sent `Accepts`,
//! and so knows the kind. `Taken` and `Refused` answer it as they answer `Connections`: in the order of the messages of both kinds.
//!
//! # Times
//!
//! In version 2 a record of a connection ends with its [`Elapsed`](crate::idle_connection::Elapsed) times. To a process that speaks version 1, and
//! from one, connections travel without them, and their limits in time start anew.
//!
//! # What a later version may do
//!
//! - Add fields at the end of a message, and in version 2 at the end of a record in a list: a reader does not read them.
//! - Add kinds. A sender sends only kinds of the version that is spoken. A kind that a reader does not know is ignored. The descriptors that
//!   came with it stay open until the control socket is closed, up to those of one full message: the reader does not know what it means to
//!   the sender that they are closed. The sender does not rely on that: it has its own until the message is answered.
//! - Add a kind that asks for an answer, if the reader has said that it knows it, as by [`Accepts`]. An answer names no message, so one that
//!   is missing would shift all others.
//! - Raise the oldest version.
//!
//! Nothing of this page changes in a later version.

use serde::{Deserialize, Serialize};

pub(crate) use super::{
    accepts::Accepts,
    carried::CarriedRecord,
    moved::Moved,
    older::{Older, Wait},
    records::{Blob, ConnectionRecord, ListenerRecord, PathRecord},
};
use super::{
    error::Refusal,
    packet::{self, CONNECTIONS_V1, LISTENERS_V1, Malformed},
    printable,
    records::{ConnectionRecordV1, with_lengths},
    version::{OLDEST_VERSION, VERSION, WITH_LENGTHS},
};

macro_rules! messages {
    ($($kind:literal $name:ident, $article:literal;)*) => {
        /// One message.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) enum Message {
            $($name($name),)*
        }

        impl Message {
            /// Its name with an article, for error messages.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => concat!($article, " `", stringify!($name), "`"),)*
                }
            }

            /// The packet, in the newest version.
            pub(crate) fn encode(&self) -> Result<Vec<u8>, Malformed> {
                match self {
                    $(Self::$name(body) => packet::encode($kind, body),)*
                }
            }

            /// The message in a packet; `None` for a kind that this version does not know.
            pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
                let (kind, body) = packet::split(bytes)?;
                Ok(Some(match kind {
                    $($kind => Self::$name(packet::decode(kind, body)?),)*
                    LISTENERS_V1 => Self::Listeners(packet::decode::<ListenersV1>(kind, body)?.into()),
                    CONNECTIONS_V1 => Self::Connections(packet::decode::<ConnectionsV1>(kind, body)?.into()),
                    _ => return Ok(None),
                }))
            }
        }

        $(impl From<$name> for Message {
            fn from(body: $name) -> Self {
                Self::$name(body)
            }
        })*
    };
}

messages! {
    1 Hello, "a";
    9 Listeners, "a";
    3 SectionRecord, "a";
    4 Offered, "an";
    5 Commit, "a";
    10 Connections, "a";
    13 CarriedConnections, "a";
    7 Done, "a";
    8 Abort, "an";
    11 Older, "an";
    12 Wait, "a";
    32 Join, "a";
    33 Ready, "a";
    34 Failed, "a";
    35 Credit, "a";
    36 Taken, "a";
    37 Refused, "a";
    38 FinalTaken, "a";
    39 Trim, "a";
    40 Leaving, "a";
    41 Moved, "a";
    42 Accepts, "an";
    64 HandOver, "a";
    65 Outcome, "an";
}

/// Old to new, its first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) oldest_version: u32,
    /// How many handoffs there have been up to the old process.
    pub(crate) generation: u64,
    pub(crate) pid: u32,
    /// How many older generations still drain.
    pub(crate) draining: u32,
}

/// Old to new: its listeners. The message has a descriptor for each, or none if the new process has inherited them in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listeners {
    #[serde(with = "with_lengths")]
    pub(crate) records: Vec<ListenerRecord>,
    /// Another such message follows.
    pub(crate) more: bool,
}

/// Version 1 of [`Listeners`].
#[derive(Debug, Serialize, Deserialize)]
struct ListenersV1 {
    records: Vec<ListenerRecord>,
    more: bool,
}

/// Old to new: a part of the service's state. The message has a memfd if the data is not inline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SectionRecord {
    pub(crate) kind: SectionKind,
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) len: u64,
    pub(crate) inline: Option<Blob>,
}

/// When the service exported a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SectionKind {
    /// Before the new process starts up, while the old one serves.
    State,
    /// After the last request of the old process.
    Final,
}

/// Old to new: the offer is complete, start up now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offered {}

/// Old to new: accept from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {}

/// Old to new: connections. The message has a descriptor for each, and at the end a memfd for the bytes that are not inline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connections {
    #[serde(with = "with_lengths")]
    pub(crate) records: Vec<ConnectionRecord>,
}

/// Old to new: connections of protocols that have a record of their own. It is sent to a process that has sent [`Accepts`], and only of what
/// that one takes. The message has descriptors as [`Connections`] has them, and is answered as that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CarriedConnections {
    #[serde(with = "with_lengths")]
    pub(crate) records: Vec<CarriedRecord>,
}

/// Version 1 of [`Connections`].
#[derive(Debug, Serialize, Deserialize)]
struct ConnectionsV1 {
    records: Vec<ConnectionRecordV1>,
}

/// Old to new: the end of the handoff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {}

/// Old to new: the handoff is aborted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Abort {
    #[serde(deserialize_with = "printable::text")]
    pub(crate) reason: String,
}

/// New to old, its first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Join {
    pub(crate) version: u32,
    pub(crate) oldest_version: u32,
    pub(crate) pid: u32,
}

/// New to old: it is able to accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {}

/// New to old: it cannot take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    #[serde(deserialize_with = "printable::text")]
    pub(crate) reason: String,
}

/// New to old: so many more connections may be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credit {
    pub(crate) connections: u32,
}

/// New to old: the new process owns the oldest [`Connections`] without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) count: u32,
}

/// New to old: the old process owns the oldest [`Connections`] without an answer again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) count: u32,
    #[serde(deserialize_with = "printable::text")]
    pub(crate) reason: String,
}

/// New to old: a final section has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FinalTaken {
    pub(crate) name: String,
    /// Why the service could not import it.
    #[serde(deserialize_with = "printable::optional")]
    pub(crate) error: Option<String>,
}

/// New to old: so many generations may drain. Only older versions send it, and it is ignored: each generation drains until its own
/// deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trim {
    pub(crate) generations: u32,
}

/// New to old: it stops, so it takes nothing more, and the old process does not serve again. As an answer to [`HandOver`]: this process
/// has handed over, ask the one that is at the path now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaving {}

/// An operator's program to the serving process: hand over now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandOver {}

/// The answer to [`HandOver`]: the process id of the successor, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) pid: Option<u32>,
    #[serde(deserialize_with = "printable::optional")]
    pub(crate) reason: Option<String>,
}

impl Hello {
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        check_version(self.version, self.oldest_version)
    }
}

impl Join {
    /// This process.
    pub(crate) fn own() -> Self {
        Self { version: VERSION, oldest_version: OLDEST_VERSION, pid: std::process::id() }
    }

    pub(crate) fn check(&self) -> Result<(), Refusal> {
        check_version(self.version, self.oldest_version)
    }
}

impl Listeners {
    /// As that version writes it.
    pub(crate) fn encode_for(self, version: u32) -> Result<Vec<u8>, Malformed> {
        if version >= WITH_LENGTHS {
            return Message::from(self).encode();
        }
        let Self { records, more } = self;
        packet::encode(LISTENERS_V1, &ListenersV1 { records, more })
    }
}

impl From<ListenersV1> for Listeners {
    fn from(ListenersV1 { records, more }: ListenersV1) -> Self {
        Self { records, more }
    }
}

impl From<ConnectionsV1> for Connections {
    fn from(ConnectionsV1 { records }: ConnectionsV1) -> Self {
        Self { records: records.into_iter().map(Into::into).collect() }
    }
}

fn check_version(newest: u32, oldest: u32) -> Result<(), Refusal> {
    let is_spoken = newest >= OLDEST_VERSION && oldest <= VERSION && oldest <= newest;
    is_spoken.then_some(()).ok_or(Refusal::Version { theirs: (newest, oldest), ours: (VERSION, OLDEST_VERSION) })
}
