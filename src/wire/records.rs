//! The records in the lists of messages, in version 2 of the protocol and in version 1.

use std::{ffi::OsString, fmt, os::unix::ffi::OsStrExt, os::unix::ffi::OsStringExt, path::PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{addr::PeerAddr, idle_connection::Elapsed};

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerRecord {
    pub(crate) name: String,
    /// The socket file that the last process removes.
    pub(crate) created: Option<PathRecord>,
    /// A process of this service has bound it; otherwise the service manager has passed it.
    pub(crate) bound: bool,
}

/// The path of a socket file, with the device and the inode that it got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathRecord {
    #[serde(serialize_with = "path_to_bytes", deserialize_with = "path_from_bytes")]
    pub(crate) path: PathBuf,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionRecord {
    pub(crate) listener: String,
    pub(crate) peer: PeerAddr,
    pub(crate) undetected: bool,
    pub(crate) read_ahead: Payload,
    /// From here on version 2.
    pub(crate) elapsed: Elapsed,
}

/// Bytes that belong to a connection and may be long: what had been read and not parsed, for example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    Inline(Blob),
    /// The next so many bytes of the memfd that all connections of the message share.
    Memfd {
        len: u64,
    },
}

impl Payload {
    /// How many bytes of the memfd it has.
    pub(crate) fn in_memfd(&self) -> Option<u64> {
        match self {
            Self::Inline(_) => None,
            Self::Memfd { len } => Some(*len),
        }
    }
}

/// Version 1 of [`ConnectionRecord`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionRecordV1 {
    listener: String,
    peer: PeerAddr,
    undetected: bool,
    read_ahead: Payload,
}

impl From<ConnectionRecord> for ConnectionRecordV1 {
    fn from(record: ConnectionRecord) -> Self {
        let ConnectionRecord { listener, peer, undetected, read_ahead, elapsed: _ } = record;
        Self { listener, peer, undetected, read_ahead }
    }
}

/// Its timeouts start anew, as version 1 does not transfer them.
impl From<ConnectionRecordV1> for ConnectionRecord {
    fn from(record: ConnectionRecordV1) -> Self {
        let ConnectionRecordV1 { listener, peer, undetected, read_ahead } = record;
        Self { listener, peer, undetected, read_ahead, elapsed: Elapsed::default() }
    }
}

/// Bytes that are written at once and not one by one.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Bytes);

/// Its length alone: what it has may be a client's secret.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
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

/// A record behind its length, as a list of version 2 has it.
pub(crate) fn with_length<T: Serialize>(record: &T) -> postcard::Result<Blob> {
    postcard::to_allocvec(record).map(|record| Blob(record.into()))
}

/// Lists of records behind their lengths: a reader skips what a later version adds at the end of a record.
pub(crate) mod with_lengths {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    use super::{Blob, with_length};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(records: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        let records: Result<Vec<Blob>, _> = records.iter().map(with_length).collect();
        records.map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: de::DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let records = Vec::<Blob>::deserialize(deserializer)?;
        records.iter().map(|Blob(record)| postcard::from_bytes(record).map_err(de::Error::custom)).collect()
    }
}

/// One record behind its length.
pub(crate) mod with_one_length {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    use super::{Blob, with_length};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(record: &T, serializer: S) -> Result<S::Ok, S::Error> {
        with_length(record).map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: de::DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let Blob(record) = Blob::deserialize(deserializer)?;
        postcard::from_bytes(&record).map_err(de::Error::custom)
    }
}

fn path_to_bytes<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(path.as_os_str().as_bytes())
}

fn path_from_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Blob::deserialize(deserializer).map(|path| OsString::from_vec(path.0.into()).into())
}
