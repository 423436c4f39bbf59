//! The messages, and how they are written: a number for the kind (16 bits, little-endian), then `postcard`.
//!
//! A later version may add kinds, which are ignored, and fields at the end of a message, which are not read. It never changes
//! what stands here.

use std::{ffi::OsString, fmt, os::unix::ffi::OsStrExt, os::unix::ffi::OsStringExt, path::PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::refusal::Refusal;
use crate::addr::PeerAddr;

/// The version that this build speaks best.
pub(crate) const VERSION: u32 = 1;

/// The oldest version that this build understands.
pub(crate) const OLDEST_VERSION: u32 = 1;

/// The longest packet.
pub(crate) const LONGEST_PACKET: usize = 64 * 1024;

/// Bytes up to here travel in the packet, longer ones in a memfd.
pub(crate) const LONGEST_INLINE: usize = 4 * 1024;

macro_rules! messages {
    ($($kind:literal $name:ident, $article:literal;)*) => {
        /// One packet.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) enum Message {
            $($name($name),)*
        }

        impl Message {
            /// With its article, for messages to people.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => concat!($article, " `", stringify!($name), "`"),)*
                }
            }

            pub(crate) fn encode(&self) -> Result<Vec<u8>, Malformed> {
                let (kind, body) = match self {
                    $(Self::$name(body) => ($kind, postcard::to_extend(body, header($kind))),)*
                };
                packet(kind, body)
            }

            /// `None` for a kind that this version does not know.
            pub(crate) fn decode(packet: &[u8]) -> Result<Option<Self>, Malformed> {
                let (kind, body) = packet.split_first_chunk().ok_or(Malformed::Short)?;
                let kind = u16::from_le_bytes(*kind);
                Ok(Some(match kind {
                    $($kind => Self::$name(postcard::from_bytes(body).map_err(|problem| Malformed::Body { kind, problem })?),)*
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
    2 Listeners, "a";
    3 SectionRecord, "a";
    4 Offered, "an";
    5 Commit, "a";
    6 Connections, "a";
    7 Done, "a";
    8 Abort, "an";
    32 Join, "a";
    33 Ready, "a";
    34 Failed, "a";
    35 Credit, "a";
    36 Taken, "a";
    37 Refused, "a";
    38 FinalTaken, "a";
    39 Trim, "a";
    40 Leaving, "a";
    64 HandOver, "a";
    65 Outcome, "an";
}

/// The number of [`Connections`], which are written record by record.
const CONNECTIONS: u16 = 6;

/// The numbers of [`Taken`] and [`Refused`].
const TAKEN: u16 = 36;
const REFUSED: u16 = 37;

/// Old to new, its first word: who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) oldest_version: u32,
    /// How many hand-overs there were up to it.
    pub(crate) generation: u64,
    pub(crate) pid: u32,
    /// How many older generations still drain.
    pub(crate) draining: u32,
}

/// Old to new: its listeners. With a descriptor for each, or with none where they were inherited in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listeners {
    pub(crate) records: Vec<ListenerRecord>,
    /// Another such message follows.
    pub(crate) more: bool,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerRecord {
    pub(crate) name: String,
    /// The file that its owner has to remove in the end.
    pub(crate) created: Option<PathRecord>,
    /// Bound by a process of this service, not passed by its manager.
    pub(crate) bound: bool,
}

/// A socket's file, and which one it was when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathRecord {
    #[serde(serialize_with = "path_to_bytes", deserialize_with = "path_from_bytes")]
    pub(crate) path: PathBuf,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// Old to new: a part of the application's state. With a memfd if it is not inline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SectionRecord {
    pub(crate) kind: SectionKind,
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) len: u64,
    pub(crate) inline: Option<Blob>,
}

/// When a section was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SectionKind {
    /// Before the successor initialises, while the predecessor serves.
    State,
    /// After the last request of the predecessor.
    Final,
}

/// Old to new: that was all, initialise now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offered {}

/// Old to new: accept from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {}

/// Old to new: connections. With a descriptor for each, and one memfd at the end for the bytes that are not inline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connections {
    pub(crate) records: Vec<ConnectionRecord>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionRecord {
    pub(crate) listener: String,
    pub(crate) peer: PeerAddr,
    pub(crate) fresh: bool,
    pub(crate) ahead: Ahead,
}

/// What had been read and not parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ahead {
    Inline(Blob),
    /// The next so many bytes of the memfd that all connections of the message share.
    Memfd {
        len: u64,
    },
}

/// Old to new: nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {}

/// Old to new: it will not go on with you.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Abort {
    pub(crate) reason: String,
}

/// New to old, its first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Join {
    pub(crate) version: u32,
    pub(crate) oldest_version: u32,
    pub(crate) pid: u32,
}

/// New to old: able to accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {}

/// New to old: it will not be able to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) reason: String,
}

/// New to old: send so many connections more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credit {
    pub(crate) connections: u32,
}

/// New to old: the oldest [`Connections`] without an answer are the new one's now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) count: u32,
}

/// New to old: the oldest [`Connections`] without an answer stay the old one's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) count: u32,
    pub(crate) reason: String,
}

/// New to old: a final section has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FinalTaken {
    pub(crate) name: String,
    /// What the application said to it.
    pub(crate) error: Option<String>,
}

/// New to old: so many generations may drain, you included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trim {
    pub(crate) generations: u32,
}

/// New to old: it stops, so send nothing more, and do not resume because it goes. As an answer to [`HandOver`]: it has handed over, ask
/// the process that is at the path now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaving {}

/// An operator's program to the serving process: hand over now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandOver {}

/// What became of [`HandOver`]: the successor, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) pid: Option<u32>,
    pub(crate) reason: Option<String>,
}

/// Bytes, written at once and not one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Bytes);

/// Why a packet is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Shorter than the number of a kind.
    Short,
    /// Longer than [`LONGEST_PACKET`].
    Long,
    /// Not what a message of that kind is made of.
    Body { kind: u16, problem: postcard::Error },
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

/// A [`Connections`] message as it is written, record by record: how long each is shows only then.
#[derive(Debug, Default)]
pub(crate) struct ConnectionsWriter {
    records: Vec<u8>,
    count: u32,
}

impl ConnectionsWriter {
    /// What the kind and the number of records may take.
    const HEAD: usize = 2 + 5;

    /// Adds `record` if it fits.
    pub(crate) fn push(&mut self, record: &ConnectionRecord) -> bool {
        let record = postcard::to_allocvec(record).unwrap_or_default();
        let fits = !record.is_empty() && Self::HEAD + self.records.len() + record.len() <= LONGEST_PACKET;
        if fits {
            self.records.extend(record);
            self.count += 1;
        }
        fits
    }

    /// The packet.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut packet = header(CONNECTIONS);
        packet.reserve_exact(Self::HEAD + self.records.len());
        // A number cannot fail to be written to memory.
        let mut packet = postcard::to_extend(&self.count, packet).unwrap_or_default();
        packet.extend(self.records);
        packet
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }
        }

        deserializer.deserialize_bytes(Visitor)
    }
}

impl Malformed {
    /// Whether it may be a [`Taken`] or a [`Refused`]: the next one of these is then not about what was sent first.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Self::Body { kind, .. } => [TAKEN, REFUSED].contains(kind),
            Self::Long => true,
            Self::Short => false,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("a packet of one byte"),
            Self::Long => write!(f, "a packet longer than {LONGEST_PACKET} bytes"),
            Self::Body { kind, problem } => write!(f, "message {kind}: {problem}"),
        }
    }
}

fn header(kind: u16) -> Vec<u8> {
    kind.to_le_bytes().to_vec()
}

fn packet(kind: u16, packet: postcard::Result<Vec<u8>>) -> Result<Vec<u8>, Malformed> {
    let packet = packet.map_err(|problem| Malformed::Body { kind, problem })?;
    if packet.len() > LONGEST_PACKET { Err(Malformed::Long) } else { Ok(packet) }
}

fn check_version(newest: u32, oldest: u32) -> Result<(), Refusal> {
    if newest >= OLDEST_VERSION && oldest <= VERSION && oldest <= newest {
        return Ok(());
    }
    Err(Refusal::Version { theirs: (newest, oldest), ours: (VERSION, OLDEST_VERSION) })
}

fn path_to_bytes<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(path.as_os_str().as_bytes())
}

fn path_from_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Blob::deserialize(deserializer).map(|path| OsString::from_vec(path.0.into()).into())
}
