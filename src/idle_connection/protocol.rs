//! What the client of a connection in transfer speaks, and what the next process must know to go on with it.

use super::{Http2Record, ResumableRecord};
use crate::drain::ConnectionKind;

/// What the client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The first bytes have not shown yet whether the client speaks HTTP/1 or HTTP/2.
    Undetected,
    /// HTTP/1, between two requests.
    Http1,
    /// HTTP/2, with no stream open.
    Http2(Box<Http2Record>),
    /// An exchange of HTTP/1 that has no end of its own: an upgraded connection, or a response that is a stream.
    Resumable(Box<ResumableRecord>),
}

impl Protocol {
    /// What the connection is counted as when it moves.
    pub(crate) fn kind(&self) -> ConnectionKind {
        match self {
            Self::Undetected | Self::Http1 => ConnectionKind::Http1,
            Self::Http2(_) => ConnectionKind::Http2,
            Self::Resumable(record) if record.status == 101 => ConnectionKind::Upgraded,
            Self::Resumable(_) => ConnectionKind::Stream,
        }
    }
}

/// Which connections of one listener the next process takes, beside those of HTTP/1 that are idle.
///
/// The new process says it before it is ready. A process of an older build says nothing, and takes none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepts {
    /// HTTP/2 connections without an open stream.
    pub(crate) http2: bool,
    /// Exchanges that a handler resumes.
    pub(crate) resumable: bool,
}
