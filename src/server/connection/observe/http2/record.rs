//! Whether what another process says of a connection can be true.

use super::settings::{INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, Settings};
use crate::idle_connection::Http2Record;

/// What the library of this crate always announces.
const ALWAYS: [u16; 4] = [MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE];

/// What the client of a connection has acknowledged, as far as it limits the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Agreed {
    pub(in crate::server) concurrent_streams: u32,
    pub(in crate::server) stream_window: u32,
    pub(in crate::server) frame_size: u32,
    pub(in crate::server) header_list_size: u32,
    /// What the client may still send on the connection.
    pub(in crate::server) connection_window: u32,
}

impl Agreed {
    /// Of the settings of this side, and of what the client may still send.
    pub(super) fn of(own: &Settings, connection_window: u32) -> Self {
        Self {
            concurrent_streams: own.value(MAX_CONCURRENT_STREAMS),
            stream_window: own.value(INITIAL_WINDOW_SIZE),
            frame_size: own.value(MAX_FRAME_SIZE),
            header_list_size: own.value(MAX_HEADER_LIST_SIZE),
            connection_window,
        }
    }
}

/// The settings of both sides, if they and the rest can be true.
pub(super) fn settings(record: &Http2Record) -> Option<(Settings, Settings)> {
    record.check().ok()?;
    let client = Settings::from_pairs(&record.client_settings)?;
    let own = Settings::from_pairs(&record.own_settings)?;
    ALWAYS.iter().all(|id| own.get(*id).is_some()).then_some((client, own))
}
