//! What the client of a connection speaks, as far as a move is concerned.

use std::fmt;

/// What a connection is to the next process that takes it.
///
/// ```
/// use axum_activation::drain::ConnectionKind;
///
/// assert_eq!(ConnectionKind::Http2.to_string(), "http2");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConnectionKind {
    /// HTTP/1 between two requests, or a connection on which nothing was sent yet.
    Http1,
    /// HTTP/2 without an open stream, gRPC included.
    Http2,
    /// An upgraded connection, such as a WebSocket, whose handler resumes it.
    Upgraded,
    /// A response without an end of its own, such as server-sent events, whose handler resumes it.
    Stream,
}

impl ConnectionKind {
    /// Every kind, in the order of a report.
    ///
    /// ```
    /// use axum_activation::drain::ConnectionKind;
    ///
    /// let names: Vec<_> = ConnectionKind::ALL.iter().map(|kind| kind.name()).collect();
    /// assert_eq!(names, ["http1", "http2", "upgraded", "stream"]);
    /// ```
    pub const ALL: &[Self] = &[Self::Http1, Self::Http2, Self::Upgraded, Self::Stream];

    /// The name of the kind in a report, in the log and as a label of a metric.
    ///
    /// ```
    /// use axum_activation::drain::ConnectionKind;
    ///
    /// assert_eq!(ConnectionKind::Upgraded.name(), "upgraded");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Upgraded => "upgraded",
            Self::Stream => "stream",
        }
    }
}

/// Its [`name`](Self::name).
impl fmt::Display for ConnectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_stands_at_its_own_number() {
        for (number, kind) in ConnectionKind::ALL.iter().copied().enumerate() {
            assert_eq!(kind as usize, number, "{kind}");
        }
    }
}
