//! The protocol for the fuzz targets: bytes in, what was understood out.

use std::{collections::VecDeque, os::fd::OwnedFd, sync::Arc};

use super::{
    accepts::SuccessorAccepts,
    batch::{self, Batch, received as received_records},
    packet::{self, LONGEST_INLINE},
    protocol::{CarriedConnections, Connections, Message},
};
use crate::{
    addr::PeerAddr,
    idle_connection::{Accepts, IdleConnection, Protocol, Times},
    sys::memfd,
};

/// The longest packet.
pub const LONGEST_PACKET: usize = packet::LONGEST_PACKET;

/// A connection of a message.
#[derive(Debug)]
pub struct Connection {
    /// The name of its listener.
    pub listener: String,
    /// Its descriptor.
    pub stream: OwnedFd,
    /// The client.
    pub peer: PeerAddr,
    /// What had been read and not parsed.
    pub read_ahead: Vec<u8>,
    /// Those bytes came in the memfd.
    pub is_long: bool,
    /// What the client speaks.
    pub spoken: Spoken,
}

/// What the client of a connection speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken(pub(crate) Protocol);

impl Spoken {
    /// Whether the next process must know more than that to go on.
    pub fn has_record(&self) -> bool {
        self.0.carried().is_some()
    }
}

/// Decodes a packet, and encodes its message again; `None` for a kind that is not known.
pub fn packet(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let encoded = Message::decode(bytes).and_then(|message| message.map(|message| message.encode()).transpose());
    encoded.map_err(|problem| problem.to_string())
}

/// As [`packet`], for a list in version 1.
pub fn packet_v1(bytes: &[u8]) -> Option<Vec<u8>> {
    match Message::decode(bytes).ok()?? {
        Message::Listeners(listeners) => listeners.encode_for(1).ok(),
        Message::Connections(Connections { records }) => {
            let mut writer = batch::ConnectionsWriter::new(1);
            records.into_iter().all(|record| writer.push(record)).then(|| writer.finish())
        }
        _ => None,
    }
}

/// The text of the other process that a packet has for a log line.
pub fn texts(bytes: &[u8]) -> Vec<String> {
    match Message::decode(bytes).ok().flatten() {
        Some(Message::Abort(abort)) => vec![abort.reason],
        Some(Message::Failed(failed)) => vec![failed.reason],
        Some(Message::Refused(refused)) => vec![refused.reason],
        Some(Message::FinalTaken(taken)) => taken.error.into_iter().collect(),
        Some(Message::Outcome(outcome)) => outcome.reason.into_iter().collect(),
        _ => Vec::new(),
    }
}

/// A sealed memfd, as comes with a packet.
pub fn memfd(bytes: &[u8]) -> OwnedFd {
    memfd::sealed("fuzzing", &[bytes]).expect("there is memory")
}

/// The connections of a packet with its descriptors.
pub fn unpack(packet: &[u8], fds: Vec<OwnedFd>) -> Result<Vec<Connection>, String> {
    let records = match Message::decode(packet) {
        Ok(Some(Message::Connections(Connections { records }))) => received_records(records),
        Ok(Some(Message::CarriedConnections(CarriedConnections { records }))) => received_records(records),
        _ => return Err("no connections".to_owned()),
    };
    let long: Vec<_> = records.iter().map(|record| batch::has_memfd(std::slice::from_ref(record))).collect();
    let connections = batch::unpack(records, fds, |name| Arc::from(name))?;
    Ok(connections.into_iter().zip(long).map(|(connection, is_long)| received(connection, is_long)).collect())
}

/// The packets of `connections` with their descriptors, to a process that takes all of them.
pub fn gather(connections: Vec<Connection>, version: u32) -> Vec<(Vec<u8>, Vec<OwnedFd>)> {
    let all = Accepts { http2: true, resumable: true };
    let accepts: Vec<_> = connections.iter().map(|connection| (connection.listener.clone(), all)).collect();
    let accepts = SuccessorAccepts::from(accepts);
    let mut waiting: VecDeque<_> = connections.into_iter().map(idle).collect();
    let mut packets = Vec::new();
    while !waiting.is_empty() {
        let (batch, unsendable) = Batch::gather(&mut waiting, usize::MAX, version, &accepts);
        assert!(
            unsendable.iter().all(|(connection, _)| connection.read_ahead.len() < LONGEST_INLINE),
            "{unsendable:?}"
        );
        packets.extend(batch.map(|batch| {
            let fds = batch.fds().iter().map(|fd| fd.try_clone_to_owned().expect("a descriptor is free")).collect();
            (batch.packet().to_vec(), fds)
        }));
    }
    packets
}

fn received(connection: IdleConnection, is_long: bool) -> Connection {
    let IdleConnection { listener, stream, peer, read_ahead, protocol, .. } = connection;
    Connection {
        listener: listener.as_ref().to_owned(),
        stream,
        peer,
        read_ahead: read_ahead.into(),
        is_long,
        spoken: Spoken(protocol),
    }
}

fn idle(connection: Connection) -> IdleConnection {
    let Connection { listener, stream, peer, read_ahead, spoken: Spoken(protocol), .. } = connection;
    let (listener, times) = (listener.into(), Times::now());
    IdleConnection { listener, stream, peer, read_ahead: read_ahead.into(), protocol, times, reservation: None }
}
