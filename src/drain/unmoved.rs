//! Why a connection ended in this process while others moved to the next one.

use std::fmt;

/// Why a connection did not move to the next process, or to systemd's fd store.
///
/// All but [`NotResumed`](Self::NotResumed) are noted only while connections move: at a handoff, or at a stop with the fd store. A connection
/// that its client closes, or that an answer announces to close, has no reason.
///
/// ```
/// use axum_activation::drain::UnmovedReason;
///
/// assert_eq!(UnmovedReason::OpenStreams.to_string(), "open_streams");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UnmovedReason {
    /// A request was being answered, or its headers were being read, until the deadline of the drain.
    Busy,
    /// The handler did not read the request body to its end, so the connection cannot be used for another request.
    RequestBody,
    /// HTTP/2: streams did not end in time, an extended CONNECT (RFC 8441) included.
    OpenStreams,
    /// HTTP/2: the client did not acknowledge the SETTINGS of this process in time.
    NoAcknowledgement,
    /// HTTP/2: the client goes on to use its header table after it has acknowledged a size of 0 (RFC 7541, section 4.2).
    IgnoresTableSize,
    /// HTTP/2: one side had sent GOAWAY before.
    GoingAway,
    /// The bytes that passed are not what the protocol allows, or not what this process follows.
    NotUnderstood,
    /// An upgraded connection, or a stream, whose handler does not ask for `Resume`, or one of a kind that cannot be resumed.
    NotResumable,
    /// The handler asks for `Resume` and did not leave in time, or left while another task kept a part of the socket.
    Stayed,
    /// The state that the handler leaves is longer than the limit.
    StateTooLong,
    /// The next process, or the fd store, does not take connections of this kind.
    NotTaken,
    /// The fd store is full, or the next process has no descriptor left.
    NoRoom,
    /// The next process did not take it: it stops, has no router for it, or broke the protocol of the handoff.
    Refused,
    /// It could not be sent: it has more bytes buffered than a message takes, or the kernel refused.
    Unsendable,
    /// It came from the process before, and no handler here went on with it. It is noted whether connections move or not.
    NotResumed,
    /// It speaks TLS, which does not move.
    Tls,
}

impl UnmovedReason {
    /// Every reason, in the order of a report.
    ///
    /// ```
    /// use axum_activation::drain::UnmovedReason;
    ///
    /// assert!(UnmovedReason::ALL.contains(&UnmovedReason::NoRoom));
    /// ```
    pub const ALL: &[Self] = &[
        Self::Busy,
        Self::RequestBody,
        Self::OpenStreams,
        Self::NoAcknowledgement,
        Self::IgnoresTableSize,
        Self::GoingAway,
        Self::NotUnderstood,
        Self::NotResumable,
        Self::Stayed,
        Self::StateTooLong,
        Self::NotTaken,
        Self::NoRoom,
        Self::Refused,
        Self::Unsendable,
        Self::NotResumed,
        Self::Tls,
    ];

    /// The name of the reason in a report, in the log and as a label of a metric.
    ///
    /// ```
    /// use axum_activation::drain::UnmovedReason;
    ///
    /// assert_eq!(UnmovedReason::NotResumable.name(), "not_resumable");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::RequestBody => "request_body",
            Self::OpenStreams => "open_streams",
            Self::NoAcknowledgement => "no_acknowledgement",
            Self::IgnoresTableSize => "ignores_table_size",
            Self::GoingAway => "going_away",
            Self::NotUnderstood => "not_understood",
            Self::NotResumable => "not_resumable",
            Self::Stayed => "stayed",
            Self::StateTooLong => "state_too_long",
            Self::NotTaken => "not_taken",
            Self::NoRoom => "no_room",
            Self::Refused => "refused",
            Self::Unsendable => "unsendable",
            Self::NotResumed => "not_resumed",
            Self::Tls => "tls",
        }
    }
}

/// Its [`name`](Self::name).
impl fmt::Display for UnmovedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stands_at_its_own_number_and_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = UnmovedReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), UnmovedReason::ALL.len());
        for (number, reason) in UnmovedReason::ALL.iter().copied().enumerate() {
            assert_eq!(reason as usize, number, "{reason}");
        }
    }
}
