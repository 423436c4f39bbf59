//! The observers for the fuzz targets: bytes in, what was understood out.

pub use super::http2::fuzzing::{Http2, MoveStep, header_block};
use super::websocket::{Frames, Side};

/// The frames of one side of a WebSocket.
#[derive(Debug)]
pub struct WebSocket(Frames);

/// What has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketState {
    /// No message is open.
    pub is_between_messages: bool,
    /// How many bytes pass at least before one can end.
    pub open_len: usize,
    /// The side has said Close.
    pub has_closed: bool,
    /// Something passed that RFC 6455 does not allow.
    pub is_faulty: bool,
}

impl WebSocket {
    /// Those of the client, or those of the server.
    #[must_use]
    pub fn new(of_client: bool, allows_rsv1: bool) -> Self {
        Self(Frames::new(if of_client { Side::Client } else { Side::Server }, allows_rsv1))
    }

    /// Follows the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
    }

    /// What has passed.
    #[must_use]
    pub fn state(&self) -> WebSocketState {
        WebSocketState {
            is_between_messages: self.0.is_between_messages(),
            open_len: self.0.open_len(),
            has_closed: self.0.has_closed(),
            is_faulty: self.0.is_faulty(),
        }
    }
}
