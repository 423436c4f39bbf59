//! The parsers of what other processes and clients send, for the targets in `fuzz/`. It is there with `--cfg fuzzing` alone, and no part
//! of the public API.

pub use crate::{
    activation::fuzzing::{Listened, Variables, listen, name_in_store, stored_name},
    fdstore::fuzzing::{Record, journal, write_journal},
    server::fuzzing::{Detected, Http2, MoveStep, WebSocket, WebSocketState, detect, header_block},
    wire::fuzzing::{Connection, LONGEST_PACKET, gather, memfd, packet, packet_v1, texts, unpack},
};
