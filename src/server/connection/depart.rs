//! A connection that leaves this process alive: it is taken out of the runtime and given to the sink of its route.
//!
//! Its reservation goes along, so that the drain and the limits of this process count it until another process has it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::io::Io;
use crate::{
    drain::{CloseReason, UnmovedReason},
    idle_connection::{Http2Record, IdleConnection, Protocol, Times},
    log,
};

/// Sends the connection to the sink of its route: only one that was found movable.
pub(super) fn depart(io: Io, protocol: Protocol, times: Times) {
    let state = Arc::clone(io.state());
    let peer = state.peer.clone();
    match io.into_parts() {
        Ok((stream, read_ahead, guard)) => {
            state.end(CloseReason::Moved(protocol.kind()));
            let (listener, reservation) = (state.route.counters.shared_name(), guard.into_reservation());
            let connection = IdleConnection { listener, stream, peer, read_ahead, protocol, times, reservation };
            // The sink of a route takes every connection.
            let _ = state.route.sink.send(connection);
        }
        Err(error) => {
            log::debug!(%error, "a connection could not be taken out of the runtime");
            state.note_unmoved(UnmovedReason::Unsendable);
            state.end(CloseReason::Error);
        }
    }
}

/// A connection of HTTP/2 at its quiet point.
#[derive(Debug)]
pub(super) struct Departing {
    pub(super) io: Io,
    pub(super) record: Http2Record,
    /// What the client has sent and hyper has not seen.
    pub(super) held: Bytes,
}

/// Where the loop of a connection finds it at its quiet point.
#[derive(Clone, Debug, Default)]
pub(super) struct Departure(Arc<Mutex<Option<Departing>>>);

impl Departure {
    /// The connection, once it has been taken out from under hyper.
    pub(super) fn take(&self) -> Option<Departing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, departing: Departing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(departing);
    }
}
