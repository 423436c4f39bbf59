//! The parsers of a connection for the fuzz targets: bytes in, what was understood out.

use super::detect;
pub use super::observe::fuzzing::{Http2, MoveStep, WebSocket, WebSocketState, header_block};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// HTTP/1, or nothing that is known.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS, which is not spoken there.
    Tls,
}

/// The protocol of the first bytes, once they decide it.
pub fn detect(first: &[u8]) -> Option<Detected> {
    detect::tell(first).map(|detected| match detected {
        detect::Detected::Http1 => Detected::Http1,
        detect::Detected::Http2 => Detected::Http2,
        detect::Detected::Tls => Detected::Tls,
        detect::Detected::Nothing => unreachable!("it is found at the end of the stream alone"),
    })
}
