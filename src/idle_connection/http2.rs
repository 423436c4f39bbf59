//! What the next process must know of an HTTP/2 connection that moves (RFC 9113).

use serde::{Deserialize, Serialize};

/// The state of an HTTP/2 connection without an open stream, as far as both sides have agreed upon it on the wire.
///
/// A later version may add fields at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Http2Record {
    /// The client's settings, as pairs of identifier and value: the last value of each.
    pub(crate) client_settings: Vec<(u16, u32)>,
    /// The settings of this side that the client has acknowledged.
    pub(crate) own_settings: Vec<(u16, u32)>,
    /// The highest stream identifier that the client has used.
    pub(crate) highest_stream: u32,
    /// How many bytes of DATA this side may still send on the connection.
    pub(crate) send_window: u32,
    /// How many bytes of DATA the client may still send on the connection.
    pub(crate) receive_window: u32,
}
