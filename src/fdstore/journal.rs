//! What belongs to each stored connection, in a file that both processes have: the old writes it, the new reads and voids it.
//!
//! Eight bytes to know it by, then records: the length of the head and of the bytes ahead (32 bits each, little-endian), the
//! head in `postcard`, the bytes. A record that is cut short was being written as the process ended: its connection was not sent.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    addr::PeerAddr,
    log,
    sys::{memfd, socket},
    transit::{IdleConnection, LONGEST_AHEAD},
};

/// What a journal begins with; the last byte is the version.
const MAGIC: [u8; 8] = *b"aa.jrnl\x01";

/// The two lengths before each record.
const LENGTHS: usize = 8;

/// The records of connections that are on their way to the next process.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
}

/// What belongs to one connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Which socket it is.
    pub(super) cookie: u64,
    pub(super) listener: String,
    pub(super) peer: PeerAddr,
    pub(super) fresh: bool,
    pub(super) ahead: Bytes,
}

/// As it is written; a later version may add fields at the end, which are not read.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    cookie: u64,
    listener: String,
    peer: PeerAddr,
    fresh: bool,
}

impl Journal {
    pub(super) fn create() -> io::Result<Self> {
        let mut file = memfd::growing("axum-activation journal")?;
        file.write_all(&MAGIC)?;
        Ok(Self { file })
    }

    /// The journal that `fd` is; `None` if it is something else.
    pub(super) fn open(fd: OwnedFd) -> Option<Self> {
        let file = File::from(fd);
        let mut magic = MAGIC.map(|_| 0);
        file.read_exact_at(&mut magic, 0).ok()?;
        (magic == MAGIC).then_some(Self { file })
    }

    /// Notes what belongs to `connection`.
    pub(super) fn append(&mut self, connection: &IdleConnection) -> io::Result<()> {
        let IdleConnection { listener, stream, peer, ahead, fresh, .. } = connection;
        let head = Head {
            cookie: socket::cookie(stream)?,
            listener: listener.as_ref().to_owned(),
            peer: peer.clone(),
            fresh: *fresh,
        };
        let head = postcard::to_allocvec(&head).map_err(io::Error::other)?;
        if ahead.len() > LONGEST_AHEAD {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        self.file.write_all(&[&length(&head)[..], &length(ahead), &head, ahead].concat())
    }

    /// For the manager to keep.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    /// The records, which nobody finds here any more.
    pub(super) fn take(self) -> io::Result<Vec<Record>> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata()?.len()).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        self.file.set_len(MAGIC.len() as u64)?;
        Ok(records(Bytes::from(bytes).slice(MAGIC.len()..)))
    }
}

/// All that are whole.
fn records(mut bytes: Bytes) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((head, ahead)) = next(&mut bytes) {
        match postcard::from_bytes(&head) {
            Ok(Head { cookie, listener, peer, fresh }) => records.push(Record { cookie, listener, peer, fresh, ahead }),
            Err(error) => log::warn!(%error, "what is known of a kept connection cannot be read"),
        }
    }
    records
}

fn next(bytes: &mut Bytes) -> Option<(Bytes, Bytes)> {
    let (head, rest) = bytes.split_first_chunk()?;
    let (ahead, _) = rest.split_first_chunk()?;
    let [head, ahead] = [*head, *ahead].map(|length| u32::from_le_bytes(length) as usize);
    let end = LENGTHS.checked_add(head)?.checked_add(ahead)?;
    if end > bytes.len() {
        return None;
    }
    let mut record = bytes.split_to(end).split_off(LENGTHS);
    Some((record.split_to(head), record))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixStream};

    use super::*;

    fn connection(stream: impl Into<OwnedFd>, ahead: &'static [u8]) -> IdleConnection {
        let (listener, peer) = ("http".into(), "127.0.0.1:1".parse().unwrap());
        IdleConnection {
            listener,
            stream: stream.into(),
            peer,
            ahead: ahead.into(),
            fresh: ahead.is_empty(),
            keep: None,
        }
    }

    #[test]
    fn what_was_written_is_read_by_whoever_has_the_file_and_only_once() {
        let (one, _peer) = UnixStream::pair().unwrap();
        let two = TcpListener::bind("127.0.0.1:0").unwrap();
        let cookies = [socket::cookie(&one).unwrap(), socket::cookie(&two).unwrap()];
        assert_ne!(cookies[0], cookies[1]);
        let mut journal = Journal::create().unwrap();
        let (theirs, again) = (journal.duplicate().unwrap(), journal.duplicate().unwrap());
        journal.append(&connection(one, b"GET /")).unwrap();
        journal.append(&connection(two, b"")).unwrap();
        let records = Journal::open(theirs).unwrap().take().unwrap();
        let read: Vec<_> = records.iter().map(|record| (record.cookie, &*record.ahead, record.fresh)).collect();
        assert_eq!(read, [(cookies[0], &b"GET /"[..], false), (cookies[1], b"", true)]);
        assert_eq!(&*records[0].listener, "http");
        assert_eq!(records[0].peer, "127.0.0.1:1".parse().unwrap());
        assert!(Journal::open(again).unwrap().take().unwrap().is_empty());
    }

    #[test]
    fn a_record_that_is_cut_short_is_left_out_wherever_it_is_cut() {
        let (one, _peer) = UnixStream::pair().unwrap();
        let mut journal = Journal::create().unwrap();
        journal.append(&connection(one.try_clone().unwrap(), b"first")).unwrap();
        let whole = journal.file.metadata().unwrap().len();
        journal.append(&connection(one, b"second")).unwrap();
        let mut bytes = vec![0; usize::try_from(journal.file.metadata().unwrap().len()).unwrap()];
        journal.file.read_exact_at(&mut bytes, 0).unwrap();
        for end in usize::try_from(whole).unwrap()..bytes.len() {
            let read = records(Bytes::copy_from_slice(&bytes[MAGIC.len()..end]));
            assert_eq!(read.len(), 1, "{end}");
            assert_eq!(read[0].ahead, "first");
        }
    }

    #[test]
    fn another_file_and_a_socket_are_no_journal() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        for fd in [socket.into(), File::open("/proc/self/exe").unwrap().into(), memfd::growing("x").unwrap().into()] {
            assert!(Journal::open(fd).is_none());
        }
    }
}
