//! What belongs to each stored connection, in a file that both processes have: the old writes it, the new reads and voids it.
//!
//! Eight bytes to know it by, then records: the length of the head and of the bytes ahead (32 bits each, little-endian), the
//! head in `postcard`, the bytes. A record that is aborted short was being written as the process ended: its connection was not sent.
//!
//! A head grows at its end alone, so that the same eight bytes stay: an older reader does not read what it does not know, and a newer one
//! takes what is not there for the beginning. For a reader it would be another file under other eight bytes, and it would close every
//! connection.
//!
//! Connections whose protocol has a record of its own, such as HTTP/2, are in a second file under other eight bytes. To an older reader they
//! would be connections of HTTP/1: it closes exactly these.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    addr::PeerAddr,
    idle_connection::{Elapsed, IdleConnection, LONGEST_READ_AHEAD, Protocol},
    log,
    sys::{memfd::Growing, socket},
    wire::records::Blob,
};

/// The bytes that a journal begins with.
const MAGIC_LENGTH: usize = 8;

/// The two lengths before each record.
const LENGTHS: usize = 8;

/// Which connections a journal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Idle connections of HTTP/1.
    Http1,
    /// Those whose protocol has a record of its own.
    Carried,
}

/// The records of connections that are on their way to the next process.
#[derive(Debug)]
pub(super) struct Journal {
    file: Growing,
    format: Format,
}

/// The records that the process before has written.
#[derive(Debug)]
pub(super) struct StoredJournal {
    file: File,
    format: Format,
}

/// What belongs to one connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Which socket it is.
    pub(super) cookie: u64,
    pub(super) listener: String,
    pub(super) peer: PeerAddr,
    pub(super) protocol: Protocol,
    pub(super) elapsed: Elapsed,
    pub(super) read_ahead: Bytes,
}

/// How a head begins. [`Elapsed`] follows, which the first readers do not read and the first writers did not write. A later version may
/// add more at the end.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    cookie: u64,
    listener: String,
    peer: PeerAddr,
    undetected: bool,
}

/// The head of a connection whose protocol has a record. A later version may add more at the end.
#[derive(Debug, Serialize, Deserialize)]
struct CarriedHead {
    /// A head as idle connections of HTTP/1 have it.
    head: Blob,
    /// Which protocol it is, and its record in `postcard`.
    kind: u32,
    protocol: Blob,
}

impl Format {
    /// The journal that `connection` belongs into.
    pub(super) fn of(connection: &IdleConnection) -> Self {
        if connection.protocol.carried().is_some() { Self::Carried } else { Self::Http1 }
    }

    /// What such a journal begins with; the last byte is the version of the lengths and of how a head begins.
    fn magic(self) -> [u8; MAGIC_LENGTH] {
        match self {
            Self::Http1 => *b"aa.jrnl\x01",
            Self::Carried => *b"aa.jrnc\x01",
        }
    }
}

impl Journal {
    pub(super) fn create(format: Format) -> io::Result<Self> {
        let mut file = Growing::create("axum-activation journal")?;
        file.append(&format.magic())?;
        Ok(Self { file, format })
    }

    /// Notes what belongs to `connection`, or nothing: after an error the journal is as it was.
    ///
    /// # Errors
    ///
    /// It is too long, there is no room, or the connection belongs into another journal.
    pub(super) fn append(&mut self, connection: &IdleConnection) -> io::Result<()> {
        let read_ahead = &connection.read_ahead;
        let head = match (self.format, connection.protocol.carried()) {
            (Format::Http1, None) => encoded(&head(connection)?)?,
            (Format::Carried, Some(kind)) => {
                let protocol = connection.protocol.encode().map_err(io::Error::other)?;
                let head = Blob(encoded(&head(connection)?)?.into());
                encoded(&CarriedHead { head, kind: kind as u32, protocol: Blob(protocol.into()) })?
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        if read_ahead.len() > LONGEST_READ_AHEAD {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        self.file.append(&[&length(&head)[..], &length(read_ahead), &head, read_ahead].concat())
    }

    /// For the manager to keep.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }
}

fn head(connection: &IdleConnection) -> io::Result<(Head, Elapsed)> {
    let IdleConnection { listener, stream, peer, protocol, times, .. } = connection;
    let head = Head {
        cookie: socket::cookie(stream)?,
        listener: listener.as_ref().to_owned(),
        peer: peer.clone(),
        undetected: matches!(protocol, Protocol::Undetected),
    };
    Ok((head, times.elapsed(Instant::now())))
}

fn encoded(head: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_allocvec(head).map_err(io::Error::other)
}

impl StoredJournal {
    /// The journal that `fd` is; `None` if it is something else.
    pub(super) fn open(fd: OwnedFd) -> Option<Self> {
        let file = File::from(fd);
        let mut magic = [0; MAGIC_LENGTH];
        file.read_exact_at(&mut magic, 0).ok()?;
        let format = [Format::Http1, Format::Carried].into_iter().find(|format| format.magic() == magic)?;
        Some(Self { file, format })
    }

    /// The records, which are void from then on: no other reader finds them.
    pub(super) fn take(self) -> io::Result<Vec<Record>> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata()?.len()).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        self.file.set_len(MAGIC_LENGTH as u64)?;
        Ok(records(Bytes::from(bytes).slice(MAGIC_LENGTH..), self.format))
    }
}

/// All that are whole.
fn records(mut bytes: Bytes, format: Format) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((head, read_ahead)) = next(&mut bytes) {
        let record = match format {
            Format::Http1 => read_record(&head, read_ahead),
            Format::Carried => read_carried(&head, read_ahead),
        };
        match record {
            Ok(record) => records.push(record),
            Err(error) => log::warn!(%error, "what is known of a kept connection cannot be read"),
        }
    }
    records
}

fn read_record(head: &[u8], read_ahead: Bytes) -> Result<Record, String> {
    let (Head { cookie, listener, peer, undetected }, elapsed) = read_head(head).map_err(|error| error.to_string())?;
    let protocol = if undetected { Protocol::Undetected } else { Protocol::Http1 };
    Ok(Record { cookie, listener, peer, protocol, elapsed, read_ahead })
}

fn read_carried(head: &[u8], read_ahead: Bytes) -> Result<Record, String> {
    let CarriedHead { head, kind, protocol } = postcard::from_bytes(head).map_err(|error| error.to_string())?;
    let protocol = Protocol::decode(kind, &protocol.0)?;
    Ok(Record { protocol, ..read_record(&head.0, read_ahead)? })
}

fn read_head(head: &[u8]) -> postcard::Result<(Head, Elapsed)> {
    let (begin, rest) = postcard::take_from_bytes(head)?;
    let elapsed = if rest.is_empty() { Elapsed::default() } else { postcard::from_bytes(rest)? };
    Ok((begin, elapsed))
}

fn next(bytes: &mut Bytes) -> Option<(Bytes, Bytes)> {
    let (head, rest) = bytes.split_first_chunk()?;
    let (read_ahead, _) = rest.split_first_chunk()?;
    let [head, read_ahead] = [*head, *read_ahead].map(|length| u32::from_le_bytes(length) as usize);
    let end = LENGTHS.checked_add(head)?.checked_add(read_ahead)?;
    if end > bytes.len() {
        return None;
    }
    let mut record = bytes.split_to(end).split_off(LENGTHS);
    Some((record.split_to(head), record))
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpListener, os::unix::net::UnixStream, time::Duration};

    use super::*;
    use crate::idle_connection::{Http2Record, ResumableRecord, Times};

    fn connection(stream: impl Into<OwnedFd>, read_ahead: &'static [u8]) -> IdleConnection {
        let (listener, peer) = ("http".into(), "127.0.0.1:1".parse().unwrap());
        IdleConnection {
            listener,
            stream: stream.into(),
            peer,
            read_ahead: read_ahead.into(),
            protocol: if read_ahead.is_empty() { Protocol::Undetected } else { Protocol::Http1 },
            times: Times::now(),
            reservation: None,
        }
    }

    #[test]
    fn what_was_written_is_read_by_a_process_that_has_the_file_and_only_once() {
        let (one, _peer) = UnixStream::pair().unwrap();
        let two = TcpListener::bind("127.0.0.1:0").unwrap();
        let cookies = [socket::cookie(&one).unwrap(), socket::cookie(&two).unwrap()];
        assert_ne!(cookies[0], cookies[1]);
        let mut journal = Journal::create(Format::Http1).unwrap();
        let (theirs, again) = (journal.duplicate().unwrap(), journal.duplicate().unwrap());
        journal.append(&connection(one, b"GET /")).unwrap();
        journal.append(&connection(two, b"")).unwrap();
        let records = StoredJournal::open(theirs).unwrap().take().unwrap();
        let read: Vec<_> =
            records.iter().map(|record| (record.cookie, &*record.read_ahead, record.protocol.clone())).collect();
        let expected = [(cookies[0], &b"GET /"[..], Protocol::Http1), (cookies[1], b"", Protocol::Undetected)];
        assert_eq!(read, expected);
        assert_eq!(&*records[0].listener, "http");
        assert_eq!(records[0].peer, "127.0.0.1:1".parse().unwrap());
        assert!(StoredJournal::open(again).unwrap().take().unwrap().is_empty());
    }

    #[test]
    fn a_record_that_is_cut_short_is_left_out_wherever_it_is_cut() {
        let (one, _peer) = UnixStream::pair().unwrap();
        let mut journal = Journal::create(Format::Http1).unwrap();
        journal.append(&connection(one.try_clone().unwrap(), b"first")).unwrap();
        let file = File::from(journal.duplicate().unwrap());
        let whole = file.metadata().unwrap().len();
        journal.append(&connection(one, b"second")).unwrap();
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        for end in usize::try_from(whole).unwrap()..bytes.len() {
            let read = records(Bytes::copy_from_slice(&bytes[MAGIC_LENGTH..end]), Format::Http1);
            assert_eq!(read.len(), 1, "{end}");
            assert_eq!(read[0].read_ahead, "first");
        }
    }

    #[test]
    fn another_file_and_a_socket_are_no_journal() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        for fd in [socket.into(), File::open("/proc/self/exe").unwrap().into(), tempfile::tempfile().unwrap().into()] {
            assert!(StoredJournal::open(fd).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_times_of_a_connection_go_on_behind_the_restart() {
        let (one, _peer) = UnixStream::pair().unwrap();
        let mut journal = Journal::create(Format::Http1).unwrap();
        let theirs = journal.duplicate().unwrap();
        let connection = connection(one, b"GET");
        tokio::time::advance(Duration::from_millis(20)).await;
        journal.append(&connection).unwrap();
        let records = StoredJournal::open(theirs).unwrap().take().unwrap();
        assert_eq!(records[0].elapsed, Elapsed { age: 20_000, quiet: 20_000, headers: None });
    }

    /// Of 0.1 before the times: the head ends with `fresh`.
    const FIRST: &[u8] = b"aa.jrnl\x01\x0d\0\0\0\x03\0\0\0\x07\x04http\0\x7f\0\0\x01\x01\x01GET";

    #[test]
    fn a_journal_of_the_first_writers_is_read() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(FIRST).unwrap();
        let records = StoredJournal::open(file.into()).unwrap().take().unwrap();
        let peer = "127.0.0.1:1".parse().unwrap();
        let (listener, elapsed, protocol) = ("http".to_owned(), Elapsed::default(), Protocol::Undetected);
        assert_eq!(records, [Record { cookie: 7, listener, peer, protocol, elapsed, read_ahead: "GET".into() }]);
    }

    #[test]
    fn the_first_readers_read_a_journal_of_today_and_this_one_reads_one_of_tomorrow() {
        let peer = "127.0.0.1:1".parse().unwrap();
        let head = Head { cookie: 7, listener: "http".to_owned(), peer, undetected: true };
        let elapsed = Elapsed { age: 1, quiet: 2, headers: Some(3) };
        let today = postcard::to_allocvec(&(head, elapsed)).unwrap();
        assert!(today.starts_with(&FIRST[16..29]));
        // As they do it.
        assert_eq!(postcard::from_bytes::<Head>(&today).unwrap().cookie, 7);
        let tomorrow = [&today[..], b"more"].concat();
        assert_eq!(read_head(&tomorrow).unwrap().1, elapsed);
    }

    fn carried() -> Vec<Protocol> {
        let exchange = ResumableRecord {
            method: "GET".to_owned(),
            target: "/".to_owned(),
            headers: vec![("host".to_owned(), b"a".to_vec())],
            status: 101,
            answer: Vec::new(),
            state: vec![7; 65_536],
            state_version: 1,
        };
        let http2 = Http2Record { highest_stream: 7, ..Http2Record::default() };
        vec![Protocol::Http2(Box::new(http2)), Protocol::Resumable(Box::new(exchange))]
    }

    #[test]
    fn what_has_a_record_of_its_protocol_is_in_a_journal_of_its_own() {
        let (one, _peer) = UnixStream::pair().unwrap();
        let mut journals = [Format::Http1, Format::Carried].map(|format| Journal::create(format).unwrap());
        for (i, protocol) in [vec![Protocol::Http1], carried()].concat().into_iter().enumerate() {
            let connection = IdleConnection { protocol, ..connection(one.try_clone().unwrap(), b"ahead") };
            let (own, other) = if i == 0 { (0, 1) } else { (1, 0) };
            assert!(journals[other].append(&connection).is_err());
            journals[own].append(&connection).unwrap();
        }
        let [http1, carried_journal] =
            journals.map(|journal| StoredJournal::open(journal.duplicate().unwrap()).unwrap());
        assert_eq!(http1.take().unwrap().len(), 1);
        let again = carried_journal.file.try_clone().unwrap();
        let records = carried_journal.take().unwrap();
        assert!(records.iter().all(|record| record.read_ahead == "ahead" && record.listener == "http"));
        assert!(records.iter().map(|record| &record.protocol).eq(&carried()));
        assert!(StoredJournal::open(again.into()).unwrap().take().unwrap().is_empty(), "it is void");
    }

    /// The reader of the release before journals of this kind: what begins otherwise is no journal to it.
    #[test]
    fn an_older_reader_finds_no_connection_of_http1_in_it() {
        let journal = Journal::create(Format::Carried).unwrap();
        let mut magic = [0; MAGIC_LENGTH];
        File::from(journal.duplicate().unwrap()).read_exact_at(&mut magic, 0).unwrap();
        assert_ne!(magic, FIRST[..MAGIC_LENGTH]);
        assert_eq!(Format::Http1.magic(), FIRST[..MAGIC_LENGTH]);
    }

    #[test]
    fn a_record_that_cannot_be_is_left_out_and_no_other() {
        let (one, _peer) = UnixStream::pair().unwrap();
        let mut journal = Journal::create(Format::Carried).unwrap();
        let even = Protocol::Http2(Box::new(Http2Record { highest_stream: 2, ..Http2Record::default() }));
        for protocol in [even, carried().swap_remove(0)] {
            journal.append(&IdleConnection { protocol, ..connection(one.try_clone().unwrap(), b"") }).unwrap();
        }
        let records = StoredJournal::open(journal.duplicate().unwrap()).unwrap().take().unwrap();
        assert!(records.iter().map(|record| &record.protocol).eq(&carried()[..1]));
    }

    #[test]
    fn after_an_error_the_next_record_is_whole() {
        let (one, _peer) = UnixStream::pair().unwrap();
        let mut journal = Journal::create(Format::Http1).unwrap();
        let theirs = journal.duplicate().unwrap();
        let long = vec![0; LONGEST_READ_AHEAD + 1].leak();
        assert!(journal.append(&connection(one.try_clone().unwrap(), long)).is_err());
        assert!(journal.append(&connection(File::open("/dev/null").unwrap(), b"")).is_err(), "it is no socket");
        journal.append(&connection(one, b"GET")).unwrap();
        assert_eq!(StoredJournal::open(theirs).unwrap().take().unwrap().len(), 1);
    }
}
