//! What the client of a connection in transfer speaks, and what the next process must know to go on with it.

use serde::{Serialize, de::DeserializeOwned};

use super::{http2::Http2Record, resumable::ResumableRecord};
use crate::drain::ConnectionKind;

/// The most bytes of a record of a protocol.
pub(crate) const LONGEST_PROTOCOL_RECORD: usize = 1024 * 1024;

/// What the client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The first bytes have not shown yet whether the client speaks HTTP/1 or HTTP/2.
    Undetected,
    /// HTTP/1, between two requests.
    Http1,
    /// HTTP/2, with no stream open.
    Http2(Box<Http2Record>),
    /// An exchange of HTTP/1 that has no end of its own: an upgraded connection, or a response that is a stream.
    Resumable(Box<ResumableRecord>),
}

impl Protocol {
    /// What the connection is counted as when it moves.
    pub(crate) fn kind(&self) -> ConnectionKind {
        match self {
            Self::Undetected | Self::Http1 => ConnectionKind::Http1,
            Self::Http2(_) => ConnectionKind::Http2,
            Self::Resumable(record) if record.status == 101 => ConnectionKind::Upgraded,
            Self::Resumable(_) => ConnectionKind::Stream,
        }
    }
}

/// Which connections of one listener the next process takes, beside those of HTTP/1 that are idle.
///
/// The new process says it before it is ready. A process of an older build says nothing, and takes none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepts {
    /// HTTP/2 connections without an open stream.
    pub(crate) http2: bool,
    /// Exchanges that a handler resumes.
    pub(crate) resumable: bool,
}

/// The protocols that have a record, as the number by which another process knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CarriedKind {
    Http2 = 1,
    Resumable = 2,
}

impl Protocol {
    /// The kind of its record; `None` for one that has none.
    pub(crate) fn carried(&self) -> Option<CarriedKind> {
        match self {
            Self::Undetected | Self::Http1 => None,
            Self::Http2(_) => Some(CarriedKind::Http2),
            Self::Resumable(_) => Some(CarriedKind::Resumable),
        }
    }

    /// Its record in `postcard`, empty for one that has none.
    ///
    /// # Errors
    ///
    /// It is longer than [`LONGEST_PROTOCOL_RECORD`].
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Undetected | Self::Http1 => Ok(Vec::new()),
            Self::Http2(record) => encode(record),
            Self::Resumable(record) => encode(record),
        }
    }

    /// The protocol of that number with that record, which another process has sent. What a later version has added at the end of the
    /// record is not read.
    ///
    /// # Errors
    ///
    /// It is none, or there cannot be such a connection.
    pub(crate) fn decode(kind: u32, record: &[u8]) -> Result<Self, String> {
        if record.len() > LONGEST_PROTOCOL_RECORD {
            return Err(too_long(record.len()));
        }
        if kind == CarriedKind::Http2 as u32 {
            let record: Box<Http2Record> = decode(record)?;
            record
                .check()
                .map_err(|problem| format!("an HTTP/2 connection cannot be as it is said to be: {problem}"))?;
            Ok(Self::Http2(record))
        } else if kind == CarriedKind::Resumable as u32 {
            let record: Box<ResumableRecord> = decode(record)?;
            record.check().map_err(|problem| format!("an exchange cannot be as it is said to be: {problem}"))?;
            Ok(Self::Resumable(record))
        } else {
            Err(format!("a connection of the kind {kind} is not known here"))
        }
    }
}

impl Accepts {
    /// Whether a connection that speaks `protocol` may be sent.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub(crate) fn check(self, protocol: &Protocol) -> Result<(), &'static str> {
        match protocol.carried() {
            Some(CarriedKind::Http2) if !self.http2 => Err("it takes no HTTP/2 connections"),
            Some(CarriedKind::Resumable) if !self.resumable => Err("it takes no upgraded connections and no streams"),
            _ => Ok(()),
        }
    }
}

fn encode(record: &impl Serialize) -> Result<Vec<u8>, String> {
    let bytes = postcard::to_allocvec(record).map_err(|error| error.to_string())?;
    if bytes.len() > LONGEST_PROTOCOL_RECORD { Err(too_long(bytes.len())) } else { Ok(bytes) }
}

fn decode<T: DeserializeOwned>(record: &[u8]) -> Result<T, String> {
    postcard::from_bytes(record).map_err(|error| format!("the record of its protocol: {error}"))
}

fn too_long(len: usize) -> String {
    format!("the record of its protocol has {len} bytes, the most is {LONGEST_PROTOCOL_RECORD}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http2() -> Protocol {
        Protocol::Http2(Box::new(Http2Record { highest_stream: 7, send_window: 65_535, ..Http2Record::default() }))
    }

    fn resumable(state: usize) -> Protocol {
        Protocol::Resumable(Box::new(ResumableRecord {
            method: "GET".to_owned(),
            target: "/".to_owned(),
            headers: Vec::new(),
            status: 101,
            answer: Vec::new(),
            state: vec![0; state],
            state_version: 0,
        }))
    }

    #[test]
    fn a_record_reads_back_as_it_was_also_with_fields_of_a_later_version() {
        for protocol in [http2(), resumable(5)] {
            let mut record = protocol.encode().unwrap();
            let kind = protocol.carried().unwrap() as u32;
            assert_eq!(Protocol::decode(kind, &record), Ok(protocol.clone()));
            record.extend([1, 2, 3]);
            assert_eq!(Protocol::decode(kind, &record), Ok(protocol));
        }
    }

    #[test]
    fn a_record_that_is_cut_short_is_none_and_neither_is_another_kind() {
        for protocol in [http2(), resumable(5)] {
            let (record, kind) = (protocol.encode().unwrap(), protocol.carried().unwrap() as u32);
            for len in 0..record.len() {
                assert!(Protocol::decode(kind, &record[..len]).is_err());
            }
        }
        for kind in [0, 3, u32::MAX] {
            let says = format!("a connection of the kind {kind} is not known here");
            assert_eq!(Protocol::decode(kind, &http2().encode().unwrap()), Err(says));
        }
    }

    #[test]
    fn a_record_that_cannot_be_is_refused() {
        let even = Protocol::Http2(Box::new(Http2Record { highest_stream: 8, ..Http2Record::default() }));
        let problem = Protocol::decode(1, &even.encode().unwrap()).unwrap_err();
        assert_eq!(problem, "an HTTP/2 connection cannot be as it is said to be: no client opens a stream 8");
    }

    #[test]
    fn a_record_is_at_most_so_long() {
        let empty = resumable(1 << 20).encode().unwrap_err();
        assert!(empty.ends_with("bytes, the most is 1048576"), "{empty}");
        let most = (1 << 20) - (resumable(0).encode().unwrap().len() + 2);
        let record = resumable(most).encode().unwrap();
        assert_eq!(record.len(), LONGEST_PROTOCOL_RECORD);
        assert!(Protocol::decode(2, &record).is_ok());
        assert!(Protocol::decode(2, &[record, vec![0]].concat()).is_err());
    }

    #[test]
    fn a_destination_that_says_nothing_takes_http1_alone() {
        let (none, all) = (Accepts::default(), Accepts { http2: true, resumable: true });
        for (protocol, is_carried) in
            [(Protocol::Undetected, false), (Protocol::Http1, false), (http2(), true), (resumable(0), true)]
        {
            assert_eq!(protocol.carried().is_some(), is_carried);
            assert_eq!((none.check(&protocol).is_ok(), all.check(&protocol)), (!is_carried, Ok(())));
        }
    }
}
