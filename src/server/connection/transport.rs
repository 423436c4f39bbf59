//! What hyper's HTTP/1 runs on: the stream of a connection, or one on which a single exchange may move.

use tokio::io::{AsyncRead, AsyncWrite};

use super::io::Io;

/// A stream that hyper can be taken off again.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The stream within; `None` if it cannot be used for another request.
    fn into_io(self) -> Option<Io>;
}

impl Transport for Io {
    fn into_io(self) -> Option<Io> {
        Some(self)
    }
}
