//! One packet on the control socket: a number for the kind of the message (16 bits, little-endian), then a body in `postcard`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest packet.
pub(crate) const LONGEST_PACKET: usize = 64 * 1024;

/// Bytes up to here travel in the packet, longer ones in a memfd.
pub(crate) const LONGEST_INLINE: usize = 4 * 1024;

/// The kinds that were another message in version 1.
pub(super) const LISTENERS_V1: u16 = 2;
pub(super) const CONNECTIONS_V1: u16 = 6;

/// The kinds of `Connections` and `CarriedConnections`, which are written record by record.
pub(super) const CONNECTIONS: u16 = 10;
pub(super) const CARRIED_CONNECTIONS: u16 = 13;

/// The kinds of the answers to connections: `Taken` and `Refused`.
const ANSWERS: [u16; 2] = [36, 37];

/// Why a packet is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It is shorter than the number of a kind.
    Short,
    /// It is longer than [`LONGEST_PACKET`].
    Long,
    /// Its body is not that of a message of this kind.
    Body { kind: u16, problem: postcard::Error },
}

impl Malformed {
    /// Whether it may be an answer to connections. The next answer is then not about the batch that was sent first.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Self::Body { kind, .. } => ANSWERS.contains(kind),
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

/// The packet of a message of that kind.
pub(super) fn encode(kind: u16, body: &impl Serialize) -> Result<Vec<u8>, Malformed> {
    let packet = postcard::to_extend(body, header(kind)).map_err(|problem| Malformed::Body { kind, problem })?;
    if packet.len() > LONGEST_PACKET { Err(Malformed::Long) } else { Ok(packet) }
}

/// A packet that has its kind alone.
pub(super) fn header(kind: u16) -> Vec<u8> {
    kind.to_le_bytes().to_vec()
}

/// The kind of the message in `packet`, and its body.
pub(super) fn split(packet: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (kind, body) = packet.split_first_chunk().ok_or(Malformed::Short)?;
    Ok((u16::from_le_bytes(*kind), body))
}

/// The body of a message of that kind. What a later version has added at its end is not read.
pub(super) fn decode<'a, T: Deserialize<'a>>(kind: u16, body: &'a [u8]) -> Result<T, Malformed> {
    postcard::from_bytes(body).map_err(|problem| Malformed::Body { kind, problem })
}
