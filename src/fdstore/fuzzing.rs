//! The journal for the fuzz targets: a file in, the records out.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::journal::{self, Format, Journal, StoredJournal};
use crate::{
    addr::PeerAddr,
    idle_connection::{Elapsed, IdleConnection, Times},
    wire::fuzzing::Spoken,
};

/// What belongs to one connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// Which socket it is.
    pub cookie: u64,
    /// The name of its listener.
    pub listener: String,
    /// The client.
    pub peer: PeerAddr,
    /// What the client speaks.
    pub spoken: Spoken,
    /// Its age, since when it is quiet, and since when headers are read, in microseconds.
    pub elapsed: (u64, u64, Option<u64>),
    /// What had been read and not parsed.
    pub read_ahead: Vec<u8>,
}

/// The records of a journal; `None` if it is none.
pub fn journal(file: OwnedFd) -> Option<Vec<Record>> {
    let records = StoredJournal::open(file)?.take().expect("a memfd can be read");
    Some(records.into_iter().map(Record::from).collect())
}

/// A journal with these records, each of a connection that has this socket. All or none of them have a record of their protocol.
pub fn write_journal(records: &[Record], socket: BorrowedFd<'_>) -> OwnedFd {
    let has_records = records.first().is_some_and(|record| record.spoken.has_record());
    let mut journal =
        Journal::create(if has_records { Format::Carried } else { Format::Http1 }).expect("there is memory");
    let file = journal.duplicate().expect("a descriptor is free");
    for record in records {
        let stream = socket.try_clone_to_owned().expect("a descriptor is free");
        journal.append(&idle(record, stream)).expect("it fits");
    }
    file
}

fn idle(record: &Record, stream: OwnedFd) -> IdleConnection {
    let Record { listener, peer, spoken: Spoken(protocol), read_ahead, .. } = record;
    IdleConnection {
        listener: listener.as_str().into(),
        stream,
        peer: peer.clone(),
        read_ahead: read_ahead.clone().into(),
        protocol: protocol.clone(),
        times: Times::now(),
        reservation: None,
    }
}

impl From<journal::Record> for Record {
    fn from(record: journal::Record) -> Self {
        let journal::Record { cookie, listener, peer, protocol, elapsed, read_ahead } = record;
        let Elapsed { age, quiet, headers } = elapsed;
        let (elapsed, read_ahead) = ((age, quiet, headers), read_ahead.into());
        Self { cookie, listener, peer, spoken: Spoken(protocol), elapsed, read_ahead }
    }
}
