//! A batch: the connections of one message. The new process takes all of them or none.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    packet::{CONNECTIONS, CONNECTIONS_V1, LONGEST_INLINE, LONGEST_PACKET, header},
    records::{Blob, ConnectionRecord, ConnectionRecordV1, ReadAhead, with_length},
    version::WITH_LENGTHS,
};
use crate::idle_connection::{IdleConnection, LONGEST_READ_AHEAD, Protocol};
use crate::sys::{
    memfd::{self, Growing},
    scm::MOST_FDS,
};

/// The most connections of one message: a descriptor each, and one for the bytes that are not inline.
pub(crate) const MOST_CONNECTIONS: usize = MOST_FDS - 1;

/// A message takes no further connection with long bytes ahead when it has so many: to copy them takes time.
const MUCH_READ_AHEAD: usize = 1024 * 1024;

/// Connections, and the packet that moves them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) connections: Vec<IdleConnection>,
    packet: Vec<u8>,
    memfd: Option<OwnedFd>,
}

impl Batch {
    /// Takes as many connections of one listener as fit from the front of `waiting`, up to `most`. They are of one listener, as a batch is
    /// refused as a whole and the new process may lack a listener. Each connection keeps the bytes that it has read ahead, as it may come
    /// back.
    ///
    /// Also returns the connections that cannot be sent, each with the reason, so that they hold up no other.
    pub(crate) fn gather(
        waiting: &mut VecDeque<IdleConnection>,
        most: usize,
        version: u32,
    ) -> (Option<Self>, Vec<(IdleConnection, String)>) {
        let (mut gathering, mut unsendable) = (Gathering::new(version), Vec::new());
        while gathering.connections.len() < most.min(MOST_CONNECTIONS) {
            let Some(connection) = waiting.pop_front() else { break };
            match gathering.add(connection) {
                Added::Yes => {}
                Added::Unsendable(connection, why) => unsendable.push((connection, why)),
                Added::InTheNext(connection) => {
                    waiting.push_front(connection);
                    break;
                }
            }
        }
        (gathering.finish(&mut unsendable), unsendable)
    }

    pub(crate) fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// The descriptors of the packet.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.connections
            .iter()
            .map(|connection| connection.stream.as_fd())
            .chain(self.memfd.iter().map(AsFd::as_fd))
            .collect()
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.connections.len()).unwrap_or(u32::MAX)
    }

    /// Frees what only the packet needed, once it is sent.
    pub(crate) fn forget_packet(&mut self) {
        (self.packet, self.memfd) = (Vec::new(), None);
    }
}

/// A [`Connections`](super::protocol::Connections) message that is written record by record, as only a written record shows its length.
#[derive(Debug)]
pub(crate) struct ConnectionsWriter {
    version: u32,
    records: Vec<u8>,
    count: u32,
}

impl ConnectionsWriter {
    /// The most bytes of the kind and of the number of records.
    const HEAD: usize = 2 + 5;

    pub(crate) fn new(version: u32) -> Self {
        Self { version, records: Vec::new(), count: 0 }
    }

    /// Adds `record` if it fits.
    pub(crate) fn push(&mut self, record: ConnectionRecord) -> bool {
        let record = match self.version {
            WITH_LENGTHS.. => with_length(&record).and_then(|record| postcard::to_allocvec(&record)),
            _ => postcard::to_allocvec(&ConnectionRecordV1::from(record)),
        };
        let fits = |record: &Vec<u8>| Self::HEAD + self.records.len() + record.len() <= LONGEST_PACKET;
        let record = record.ok().filter(fits);
        self.count += u32::from(record.is_some());
        record.map(|record| self.records.extend(record)).is_some()
    }

    /// The packet.
    pub(crate) fn finish(self) -> Vec<u8> {
        let kind = if self.version >= WITH_LENGTHS { CONNECTIONS } else { CONNECTIONS_V1 };
        let mut packet = header(kind);
        packet.reserve_exact(Self::HEAD + self.records.len());
        // Writing a number to memory cannot fail.
        let mut packet = postcard::to_extend(&self.count, packet).unwrap_or_default();
        packet.extend(self.records);
        packet
    }
}

/// The connections of a received message. Reads the memfd, if there is one.
///
/// # Errors
///
/// What is wrong with the message.
pub(crate) fn unpack(
    records: Vec<ConnectionRecord>,
    mut fds: Vec<OwnedFd>,
    mut name: impl FnMut(&str) -> Arc<str>,
) -> Result<Vec<IdleConnection>, String> {
    let long = total_long(&records).ok_or("too many bytes ahead")?;
    let expected = records.len() + usize::from(long > 0);
    if fds.len() != expected {
        return Err(format!("{} descriptors came with {} connections, not {expected}", fds.len(), records.len()));
    }
    let mut shared = match (long, fds.len()) {
        (0, _) => Bytes::new(),
        (_, len) => read_ahead(fds.split_off(len - 1), long)?,
    };
    let now = Instant::now();
    let connection = |(record, stream): (ConnectionRecord, OwnedFd)| {
        let ConnectionRecord { listener, peer, undetected, read_ahead, elapsed } = record;
        let read_ahead = match read_ahead {
            ReadAhead::Inline(Blob(bytes)) => bytes,
            // All of them together are as long as `shared`.
            ReadAhead::Memfd { len } => shared.split_to(usize::try_from(len).unwrap_or(usize::MAX).min(shared.len())),
        };
        let (listener, times) = (name(&listener), elapsed.times(now));
        let protocol = if undetected { Protocol::Undetected } else { Protocol::Http1 };
        IdleConnection { listener, stream, peer, read_ahead, protocol, times, reservation: None }
    };
    Ok(records.into_iter().zip(fds).map(connection).collect())
}

/// Whether the message has a memfd, which takes time to read.
pub(crate) fn has_memfd(records: &[ConnectionRecord]) -> bool {
    records.iter().any(|record| matches!(record.read_ahead, ReadAhead::Memfd { .. }))
}

/// A batch in the making.
struct Gathering {
    writer: ConnectionsWriter,
    connections: Vec<IdleConnection>,
    memfd: Option<Growing>,
    /// How many bytes that has.
    long: usize,
    now: Instant,
}

enum Added {
    Yes,
    /// It cannot be sent at all.
    Unsendable(IdleConnection, String),
    /// It belongs into the next batch.
    InTheNext(IdleConnection),
}

impl Gathering {
    fn new(version: u32) -> Self {
        let writer = ConnectionsWriter::new(version);
        Self { writer, connections: Vec::new(), memfd: None, long: 0, now: Instant::now() }
    }

    fn add(&mut self, connection: IdleConnection) -> Added {
        let len = connection.read_ahead.len();
        let is_other = self.connections.last().is_some_and(|last| last.listener != connection.listener);
        if is_other || (is_long(&connection) && self.long > 0 && self.long + len > MUCH_READ_AHEAD) {
            return Added::InTheNext(connection);
        }
        if len > LONGEST_READ_AHEAD {
            return Added::Unsendable(
                connection,
                format!("it has {len} bytes ahead, the most is {LONGEST_READ_AHEAD}"),
            );
        }
        // The bytes first: those of this connection may not fit while those of the others do.
        if is_long(&connection) {
            if let Err(error) = self.copy(&connection.read_ahead) {
                return Added::Unsendable(
                    connection,
                    format!("its bytes ahead cannot be copied into a memfd: {error}"),
                );
            }
        }
        if !self.writer.push(record(&connection, self.now)) {
            let undone = if is_long(&connection) { self.undo_copy(len) } else { Ok(()) };
            return match undone {
                Ok(()) if !self.connections.is_empty() => Added::InTheNext(connection),
                _ => Added::Unsendable(connection, "it does not fit into a message".to_owned()),
            };
        }
        self.connections.push(connection);
        Added::Yes
    }

    fn copy(&mut self, read_ahead: &[u8]) -> io::Result<()> {
        if self.memfd.is_none() {
            self.memfd = Some(Growing::create("axum-activation ahead")?);
        }
        self.memfd.as_mut().map_or(Ok(()), |memfd| memfd.append(read_ahead))?;
        self.long += read_ahead.len();
        Ok(())
    }

    fn undo_copy(&mut self, len: usize) -> io::Result<()> {
        self.long -= len;
        self.memfd.as_mut().map_or(Ok(()), |memfd| memfd.cut_off(len as u64))
    }

    /// The batch, unless it is empty. If the memfd cannot be sealed, none of its connections can be sent.
    fn finish(self, unsendable: &mut Vec<(IdleConnection, String)>) -> Option<Batch> {
        let Self { writer, connections, memfd, long, .. } = self;
        if connections.is_empty() {
            return None;
        }
        match memfd.filter(|_| long > 0).map(Growing::seal).transpose() {
            Ok(memfd) => Some(Batch { connections, packet: writer.finish(), memfd }),
            Err(error) => {
                let why = format!("the memfd with the bytes ahead cannot be sealed: {error}");
                unsendable.extend(connections.into_iter().map(|connection| (connection, why.clone())));
                None
            }
        }
    }
}

/// Whether its bytes travel in a memfd.
fn is_long(connection: &IdleConnection) -> bool {
    connection.read_ahead.len() > LONGEST_INLINE
}

fn record(connection: &IdleConnection, now: Instant) -> ConnectionRecord {
    let IdleConnection { listener, peer, read_ahead, protocol, times, .. } = connection;
    let read_ahead = match is_long(connection) {
        true => ReadAhead::Memfd { len: read_ahead.len() as u64 },
        false => ReadAhead::Inline(Blob(read_ahead.clone())),
    };
    let (listener, elapsed) = (listener.as_ref().to_owned(), times.elapsed(now));
    let undetected = matches!(protocol, Protocol::Undetected);
    ConnectionRecord { listener, peer: peer.clone(), undetected, read_ahead, elapsed }
}

/// How many bytes the memfd has; `None` for more than this crate ever sends.
fn total_long(records: &[ConnectionRecord]) -> Option<u64> {
    let most = (LONGEST_READ_AHEAD + MUCH_READ_AHEAD) as u64;
    records.iter().try_fold(0, |total, record| match record.read_ahead {
        ReadAhead::Inline(_) => Some(total),
        ReadAhead::Memfd { len: 0 } => None,
        ReadAhead::Memfd { len } => u64::checked_add(total, len).filter(|total| *total <= most),
    })
}

fn read_ahead(memfd: Vec<OwnedFd>, len: u64) -> Result<Bytes, String> {
    let memfd = memfd.into_iter().next().ok_or("the memfd is missing")?;
    memfd::read(memfd, len).map(Bytes::from).map_err(|error| error.to_string())
}
