//! Connections that travel in one message: all of them are taken, or none.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    connection::{IdleConnection, LONGEST_AHEAD},
    protocol::{Ahead, Blob, ConnectionRecord, ConnectionsWriter, LONGEST_INLINE},
};
use crate::sys::{memfd, scm::MOST_FDS};

/// The most connections of one message: a descriptor each, and one for the bytes that are not inline.
pub(crate) const MOST_CONNECTIONS: usize = MOST_FDS - 1;

/// A message takes no further connection with long bytes ahead when it has so many: to copy them takes time.
const MUCH_AHEAD: usize = 1024 * 1024;

/// Connections, and the message that moves them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) connections: Vec<IdleConnection>,
    packet: Vec<u8>,
    memfd: Option<OwnedFd>,
}

impl Batch {
    /// Takes as many of one listener as fit from the front of `waiting`, up to `credit`: a batch is refused as a whole, and a successor
    /// may lack a listener. The bytes ahead stay with the connections, too: they may
    /// come back.
    ///
    /// # Errors
    ///
    /// The connections that cannot be sent, and why.
    pub(crate) fn gather(
        waiting: &mut VecDeque<IdleConnection>,
        credit: usize,
    ) -> Result<Self, (Vec<IdleConnection>, String)> {
        let (mut writer, mut connections, mut long) = (ConnectionsWriter::default(), Vec::new(), 0);
        while connections.len() < credit.min(MOST_CONNECTIONS) {
            let Some(connection) = waiting.front() else { break };
            if connections.last().is_some_and(|last: &IdleConnection| last.listener != connection.listener) {
                break;
            }
            let is_long = connection.ahead.len() > LONGEST_INLINE;
            if is_long && long > 0 && long + connection.ahead.len() > MUCH_AHEAD {
                break;
            }
            if connection.ahead.len() > LONGEST_AHEAD || !writer.push(&record(connection)) {
                if connections.is_empty() {
                    return Err((
                        waiting.pop_front().into_iter().collect(),
                        "it does not fit into a message".to_owned(),
                    ));
                }
                break;
            }
            long += if is_long { connection.ahead.len() } else { 0 };
            connections.extend(waiting.pop_front());
        }
        match copy_ahead(&connections) {
            Ok(memfd) => Ok(Self { connections, packet: writer.finish(), memfd }),
            Err(error) => Err((connections, format!("the bytes ahead cannot be copied into a memfd: {error}"))),
        }
    }

    pub(crate) fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// What travels with the packet.
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

    /// Once it is sent: what only the message needed.
    pub(crate) fn forget_packet(&mut self) {
        (self.packet, self.memfd) = (Vec::new(), None);
    }
}

/// The connections of a message that was received, or what is wrong with it. Reads a memfd, if there is one.
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
    let connection = |(record, stream): (ConnectionRecord, OwnedFd)| {
        let ConnectionRecord { listener, peer, fresh, ahead } = record;
        let ahead = match ahead {
            Ahead::Inline(Blob(bytes)) => bytes,
            // All of them together are as long as `shared`.
            Ahead::Memfd { len } => shared.split_to(usize::try_from(len).unwrap_or(usize::MAX).min(shared.len())),
        };
        IdleConnection { listener: name(&listener), stream, peer, ahead, fresh, keep: None }
    };
    Ok(records.into_iter().zip(fds).map(connection).collect())
}

/// Whether the message came with a memfd that is to be read.
pub(crate) fn has_memfd(records: &[ConnectionRecord]) -> bool {
    records.iter().any(|record| matches!(record.ahead, Ahead::Memfd { .. }))
}

fn record(connection: &IdleConnection) -> ConnectionRecord {
    let IdleConnection { listener, peer, ahead, fresh, .. } = connection;
    let ahead = match ahead.len() {
        len if len > LONGEST_INLINE => Ahead::Memfd { len: len as u64 },
        _ => Ahead::Inline(Blob(ahead.clone())),
    };
    ConnectionRecord { listener: listener.as_ref().to_owned(), peer: peer.clone(), fresh: *fresh, ahead }
}

fn copy_ahead(connections: &[IdleConnection]) -> io::Result<Option<OwnedFd>> {
    let long = connections.iter().map(|connection| &*connection.ahead).filter(|ahead| ahead.len() > LONGEST_INLINE);
    let parts: Vec<_> = long.collect();
    match parts.is_empty() {
        true => Ok(None),
        false => memfd::sealed("axum-activation ahead", &parts).map(Some),
    }
}

/// `None` for more than any message of ours has.
fn total_long(records: &[ConnectionRecord]) -> Option<u64> {
    let most = (LONGEST_AHEAD + MUCH_AHEAD) as u64;
    records.iter().try_fold(0, |total, record| match record.ahead {
        Ahead::Inline(_) => Some(total),
        Ahead::Memfd { len: 0 } => None,
        Ahead::Memfd { len } => u64::checked_add(total, len).filter(|total| *total <= most),
    })
}

fn read_ahead(memfd: Vec<OwnedFd>, len: u64) -> Result<Bytes, String> {
    let memfd = memfd.into_iter().next().ok_or("the memfd is missing")?;
    memfd::read(memfd, len).map(Bytes::from).map_err(|error| error.to_string())
}
