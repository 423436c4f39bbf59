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
    accepts::SuccessorAccepts,
    carried::CarriedRecord,
    packet::{CARRIED_CONNECTIONS, CONNECTIONS, CONNECTIONS_V1, LONGEST_INLINE, LONGEST_PACKET, header},
    reason::ReturnReason,
    records::{Blob, ConnectionRecord, ConnectionRecordV1, Payload, with_length},
    version::WITH_LENGTHS,
};
use crate::idle_connection::{CarriedKind, IdleConnection, LONGEST_PROTOCOL_RECORD, LONGEST_READ_AHEAD, Protocol};
use crate::sys::{
    memfd::{self, Growing},
    scm::MOST_FDS,
};

/// The most connections of one message: a descriptor each, and one for the bytes that are not inline.
pub(crate) const MOST_CONNECTIONS: usize = MOST_FDS - 1;

/// A message takes no further connection with long bytes when it has so many: to copy them takes time.
const MUCH_IN_MEMFD: usize = 1024 * 1024;

/// Connections, and the packet that moves them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) connections: Vec<IdleConnection>,
    packet: Vec<u8>,
    memfd: Option<OwnedFd>,
}

impl Batch {
    /// Takes as many connections of one listener and one kind as fit from the front of `waiting`, up to `most`. They are alike, as a batch is
    /// refused as a whole and the new process may lack a listener. Those of another kind stay where they are. Each connection keeps the bytes
    /// that it has read ahead, as it may come back.
    ///
    /// Also returns the connections that cannot be sent, each with the reason, so that they hold up no other.
    pub(crate) fn gather(
        waiting: &mut VecDeque<IdleConnection>,
        most: usize,
        version: u32,
        accepts: &SuccessorAccepts,
    ) -> (Option<Self>, Vec<(IdleConnection, ReturnReason)>) {
        let (mut unsendable, mut others) = (Vec::new(), Vec::new());
        let Some(first) = waiting.front() else { return (None, unsendable) };
        let mut gathering = Gathering::new(version, Alike::of(first));
        while gathering.connections.len() < most.min(MOST_CONNECTIONS) {
            let Some(connection) = waiting.pop_front() else { break };
            if connection.protocol.carried() != gathering.alike.carried {
                others.push(connection);
                continue;
            }
            if connection.listener != gathering.alike.listener {
                waiting.push_front(connection);
                break;
            }
            if let Err(why) = accepts.check(&connection.listener, &connection.protocol) {
                unsendable.push((connection, ReturnReason::NotTaken(why)));
                continue;
            }
            match gathering.add(connection) {
                Added::Yes => {}
                Added::Unsendable(connection, why) => {
                    unsendable.push((connection, ReturnReason::Unsendable(why.into())));
                }
                Added::InTheNext(connection) => {
                    waiting.push_front(connection);
                    break;
                }
            }
        }
        others.into_iter().rev().for_each(|other| waiting.push_front(other));
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

/// A message with connections that is written record by record, as only a written record shows its length.
#[derive(Debug)]
pub(crate) struct ConnectionsWriter {
    kind: u16,
    records: Vec<u8>,
    count: u32,
}

impl ConnectionsWriter {
    /// The most bytes of the kind and of the number of records.
    const HEAD: usize = 2 + 5;

    /// `Connections`, as that version has them.
    pub(crate) fn new(version: u32) -> Self {
        Self::of_kind(if version >= WITH_LENGTHS { CONNECTIONS } else { CONNECTIONS_V1 })
    }

    /// `CarriedConnections`.
    pub(crate) fn carried() -> Self {
        Self::of_kind(CARRIED_CONNECTIONS)
    }

    fn of_kind(kind: u16) -> Self {
        Self { kind, records: Vec::new(), count: 0 }
    }

    /// Adds `record` if it fits.
    pub(crate) fn push(&mut self, record: ConnectionRecord) -> bool {
        match self.kind {
            CONNECTIONS_V1 => self.push_encoded(postcard::to_allocvec(&ConnectionRecordV1::from(record))),
            _ => self.push_encoded(with_length(&record).and_then(|record| postcard::to_allocvec(&record))),
        }
    }

    /// Adds `record` if it fits.
    pub(crate) fn push_carried(&mut self, record: &CarriedRecord) -> bool {
        self.push_encoded(with_length(record).and_then(|record| postcard::to_allocvec(&record)))
    }

    fn push_encoded(&mut self, record: postcard::Result<Vec<u8>>) -> bool {
        let fits = |record: &Vec<u8>| Self::HEAD + self.records.len() + record.len() <= LONGEST_PACKET;
        let record = record.ok().filter(fits);
        self.count += u32::from(record.is_some());
        record.map(|record| self.records.extend(record)).is_some()
    }

    /// The packet.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut packet = header(self.kind);
        packet.reserve_exact(Self::HEAD + self.records.len());
        // Writing a number to memory cannot fail.
        let mut packet = postcard::to_extend(&self.count, packet).unwrap_or_default();
        packet.extend(self.records);
        packet
    }
}

/// One connection of a received message, of either kind.
#[derive(Debug)]
pub(crate) struct ReceivedRecord {
    connection: ConnectionRecord,
    /// The number of its protocol, and the record of that.
    protocol: Option<(u32, Payload)>,
}

impl From<ConnectionRecord> for ReceivedRecord {
    fn from(connection: ConnectionRecord) -> Self {
        Self { connection, protocol: None }
    }
}

impl From<CarriedRecord> for ReceivedRecord {
    fn from(CarriedRecord { connection, kind, protocol }: CarriedRecord) -> Self {
        Self { connection, protocol: Some((kind, protocol)) }
    }
}

impl ReceivedRecord {
    /// How many bytes of the memfd each of its parts has, in their order there.
    fn in_memfd(&self) -> impl Iterator<Item = u64> {
        let protocol = self.protocol.as_ref().and_then(|(_, record)| record.in_memfd());
        self.connection.read_ahead.in_memfd().into_iter().chain(protocol)
    }
}

/// The records of a received message.
pub(crate) fn received<R: Into<ReceivedRecord>>(records: Vec<R>) -> Vec<ReceivedRecord> {
    records.into_iter().map(Into::into).collect()
}

/// The connections of a received message. Reads the memfd, if there is one.
///
/// # Errors
///
/// What is wrong with the message.
pub(crate) fn unpack(
    records: Vec<ReceivedRecord>,
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
        (_, len) => read_memfd(fds.split_off(len - 1), long)?,
    };
    let now = Instant::now();
    let connection = |(record, stream): (ReceivedRecord, OwnedFd)| {
        let ReceivedRecord { connection, protocol } = record;
        let ConnectionRecord { listener, peer, undetected, read_ahead, elapsed } = connection;
        let read_ahead = take(read_ahead, &mut shared);
        let protocol = match protocol {
            Some((kind, record)) => Protocol::decode(kind, &take(record, &mut shared))?,
            None if undetected => Protocol::Undetected,
            None => Protocol::Http1,
        };
        let (listener, times) = (name(&listener), elapsed.times(now));
        Ok(IdleConnection { listener, stream, peer, read_ahead, protocol, times, reservation: None })
    };
    records.into_iter().zip(fds).map(connection).collect()
}

/// Whether the message has a memfd, which takes time to read.
pub(crate) fn has_memfd(records: &[ReceivedRecord]) -> bool {
    records.iter().any(|record| record.in_memfd().next().is_some())
}

/// The bytes of `payload`. All that are in the memfd are together as long as `shared`.
fn take(payload: Payload, shared: &mut Bytes) -> Bytes {
    match payload {
        Payload::Inline(Blob(bytes)) => bytes,
        Payload::Memfd { len } => shared.split_to(usize::try_from(len).unwrap_or(usize::MAX).min(shared.len())),
    }
}

/// What all connections of a batch have in common.
#[derive(Debug)]
struct Alike {
    listener: Arc<str>,
    carried: Option<CarriedKind>,
}

impl Alike {
    fn of(connection: &IdleConnection) -> Self {
        Self { listener: Arc::clone(&connection.listener), carried: connection.protocol.carried() }
    }
}

/// A batch in the making.
struct Gathering {
    alike: Alike,
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
    fn new(version: u32, alike: Alike) -> Self {
        let writer = match alike.carried {
            Some(_) => ConnectionsWriter::carried(),
            None => ConnectionsWriter::new(version),
        };
        Self { alike, writer, connections: Vec::new(), memfd: None, long: 0, now: Instant::now() }
    }

    fn add(&mut self, connection: IdleConnection) -> Added {
        let ahead = connection.read_ahead.len();
        if ahead > LONGEST_READ_AHEAD {
            return Added::Unsendable(
                connection,
                format!("it has {ahead} bytes ahead, the most is {LONGEST_READ_AHEAD}"),
            );
        }
        let protocol = match connection.protocol.encode() {
            Ok(protocol) => protocol,
            Err(why) => return Added::Unsendable(connection, why),
        };
        let long = [long(&connection.read_ahead), long(&protocol)];
        let len = long[0].len() + long[1].len();
        if len > 0 && self.long > 0 && self.long + len > MUCH_IN_MEMFD {
            return Added::InTheNext(connection);
        }
        // The bytes first: those of this connection may not fit while those of the others do.
        if let Err(error) = self.copy(long) {
            return Added::Unsendable(connection, format!("its bytes ahead cannot be copied into a memfd: {error}"));
        }
        if !self.push(&connection, &protocol) {
            return match self.undo_copy(len) {
                Ok(()) if !self.connections.is_empty() => Added::InTheNext(connection),
                _ => Added::Unsendable(connection, "it does not fit into a message".to_owned()),
            };
        }
        self.connections.push(connection);
        Added::Yes
    }

    fn push(&mut self, connection: &IdleConnection, protocol: &[u8]) -> bool {
        let record = record(connection, self.now);
        match self.alike.carried {
            None => self.writer.push(record),
            Some(kind) => {
                let protocol = payload(protocol, || Bytes::copy_from_slice(protocol));
                self.writer.push_carried(&CarriedRecord { connection: record, kind: kind as u32, protocol })
            }
        }
    }

    /// Adds the bytes to the memfd, or none of them.
    fn copy(&mut self, parts: [&[u8]; 2]) -> io::Result<()> {
        let joined;
        let bytes = match parts {
            [[], []] => return Ok(()),
            [bytes, []] | [[], bytes] => bytes,
            both => {
                joined = both.concat();
                &joined
            }
        };
        if self.memfd.is_none() {
            self.memfd = Some(Growing::create("axum-activation ahead")?);
        }
        self.memfd.as_mut().map_or(Ok(()), |memfd| memfd.append(bytes))?;
        self.long += bytes.len();
        Ok(())
    }

    fn undo_copy(&mut self, len: usize) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.long -= len;
        self.memfd.as_mut().map_or(Ok(()), |memfd| memfd.cut_off(len as u64))
    }

    /// The batch, unless it is empty. If the memfd cannot be sealed, none of its connections can be sent.
    fn finish(self, unsendable: &mut Vec<(IdleConnection, ReturnReason)>) -> Option<Batch> {
        let Self { writer, connections, memfd, long, .. } = self;
        if connections.is_empty() {
            return None;
        }
        match memfd.filter(|_| long > 0).map(Growing::seal).transpose() {
            Ok(memfd) => Some(Batch { connections, packet: writer.finish(), memfd }),
            Err(error) => {
                let why = format!("the memfd with the bytes ahead cannot be sealed: {error}");
                let why = ReturnReason::Unsendable(why.into());
                unsendable.extend(connections.into_iter().map(|connection| (connection, why.clone())));
                None
            }
        }
    }
}

/// What of `bytes` travels in the memfd: all or nothing.
fn long(bytes: &[u8]) -> &[u8] {
    if bytes.len() > LONGEST_INLINE { bytes } else { &[] }
}

/// How `bytes` travel, of which `shared` makes the part that is sent in the packet.
fn payload(bytes: &[u8], shared: impl FnOnce() -> Bytes) -> Payload {
    match long(bytes).len() {
        0 => Payload::Inline(Blob(shared())),
        len => Payload::Memfd { len: len as u64 },
    }
}

fn record(connection: &IdleConnection, now: Instant) -> ConnectionRecord {
    let IdleConnection { listener, peer, read_ahead, protocol, times, .. } = connection;
    let read_ahead = payload(read_ahead, || read_ahead.clone());
    let (listener, elapsed) = (listener.as_ref().to_owned(), times.elapsed(now));
    let undetected = matches!(protocol, Protocol::Undetected);
    ConnectionRecord { listener, peer: peer.clone(), undetected, read_ahead, elapsed }
}

/// How many bytes the memfd has; `None` for more than this crate ever sends.
fn total_long(records: &[ReceivedRecord]) -> Option<u64> {
    let most = (LONGEST_READ_AHEAD + LONGEST_PROTOCOL_RECORD + MUCH_IN_MEMFD) as u64;
    records.iter().flat_map(ReceivedRecord::in_memfd).try_fold(0, |total, len| match len {
        0 => None,
        len => u64::checked_add(total, len).filter(|total| *total <= most),
    })
}

fn read_memfd(memfd: Vec<OwnedFd>, len: u64) -> Result<Bytes, String> {
    let memfd = memfd.into_iter().next().ok_or("the memfd is missing")?;
    memfd::read(memfd, len).map(Bytes::from).map_err(|error| error.to_string())
}
