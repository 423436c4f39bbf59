//! How far an exchange is, and why one that came from another process ends.

use std::fmt;

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The handler has not answered.
    Asked,
    /// It has answered with another protocol, and hyper is writing that.
    Answered,
    /// The handler has the stream.
    Upgraded,
    /// A body is being sent that has no end of its own.
    Streaming,
    /// The body has come to an end that the client does not see: another process goes on with it.
    Held,
    /// Nothing of it can move.
    Over,
}

/// Why an exchange that came from another process cannot go on here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What came is no request.
    Malformed,
    /// No handler has asked for `Resume`: the route is gone, or a layer has answered.
    NotTaken,
    /// The answer is another one than that which the client has.
    OtherAnswer,
    /// There was no answer in time.
    NoAnswer,
    /// The client has closed the connection.
    ClientGone,
    /// The handler has panicked, or the connection was dropped before it has answered.
    Dropped,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "what came of it is no request",
            Self::NotTaken => "no handler here has asked for Resume",
            Self::OtherAnswer => "the handler answers otherwise than before",
            Self::NoAnswer => "the handler does not answer in time",
            Self::ClientGone => "the client has closed it",
            Self::Dropped => "its handler has panicked, or was dropped",
        })
    }
}
