//! Why an exchange does not move, and why a handler cannot leave.

use std::{error::Error, fmt, io};

/// Why an exchange cannot move to the next process; [`Resume::not_movable`](super::Resume::not_movable) says it.
///
/// ```
/// use axum_activation::resume::NotMovable;
///
/// assert_eq!(NotMovable::RequestBody.to_string(), "the request has a body, or announces one");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotMovable {
    /// The request was not served by [`Server`](crate::Server).
    OtherServer,
    /// It is not a request of HTTP/1.1.
    Version,
    /// A CONNECT or a HEAD.
    Method,
    /// The request has a body, or announces one: `Content-Length` above 0, `Transfer-Encoding`, `Expect`.
    RequestBody,
    /// The request headers are longer than 64 KiB, or cannot be written as they were.
    RequestHeaders,
    /// The handler asked for `Resume` when its answer was given already, or the answer to an earlier request was still to be written.
    TooLate,
    /// The answer is no upgrade and no body in chunks, or it is over.
    NoStream,
    /// The answer has a `Content-Encoding`, whose state cannot be carried.
    ContentEncoding,
    /// The answer announces trailers.
    Trailers,
    /// WebSocket: an extension was agreed upon that keeps state between two messages, or that is not known.
    Extension,
    /// WebSocket: frames passed that RFC 6455 does not allow.
    Frames,
    /// WebSocket: one side has sent Close, or the connection has ended.
    Closing,
    /// The next process has not taken the connection: it ends in this one.
    Returned,
    /// The connection speaks TLS, which does not move.
    Tls,
}

impl fmt::Display for NotMovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherServer => "the request was not served by axum_activation::Server",
            Self::Version => "the request is not one of HTTP/1.1",
            Self::Method => "the method is CONNECT or HEAD",
            Self::RequestBody => "the request has a body, or announces one",
            Self::RequestHeaders => "the request headers are too long, or cannot be written as they were",
            Self::TooLate => "the handler asked for Resume too late",
            Self::NoStream => "the answer is no upgrade and no body in chunks, or it is over",
            Self::ContentEncoding => "the answer has a content encoding",
            Self::Trailers => "the answer announces trailers",
            Self::Extension => "an extension of the WebSocket keeps state, or is not known",
            Self::Frames => "frames passed on the WebSocket that RFC 6455 does not allow",
            Self::Closing => "the WebSocket is being closed, or the connection has ended",
            Self::Returned => "the next process has not taken the connection",
            Self::Tls => "the connection speaks TLS",
        })
    }
}

impl Error for NotMovable {}

/// Why a handler cannot leave.
#[derive(Debug)]
#[non_exhaustive]
pub enum LeaveReason {
    /// The exchange cannot move at all.
    NotMovable(NotMovable),
    /// No handoff asks for it, or the next process does not take such connections.
    NotRequested,
    /// A message is open, in either direction, or the client has sent one that the handler has not read.
    MessageOpen,
    /// The state is longer than 64 KiB.
    StateTooLong,
    /// What was still to be written cannot be written.
    Io(io::Error),
    /// The socket is kept elsewhere, so the connection could not be taken.
    SocketKept,
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMovable(reason) => reason.fmt(f),
            Self::NotRequested => {
                f.write_str("no handoff asks for it, or the next process does not take such connections")
            }
            Self::MessageOpen => f.write_str("a message is open, or is still to be read"),
            Self::StateTooLong => f.write_str("the state is longer than 64 KiB"),
            Self::Io(_) => f.write_str("what was still to be written cannot be written"),
            Self::SocketKept => f.write_str("a part of the socket is kept elsewhere: give all parts to leave_after"),
        }
    }
}

/// A handler could not leave: why, and the socket, if it was not given up yet.
///
/// ```
/// use axum_activation::resume::{LeaveError, LeaveReason};
///
/// fn explain<S>(error: LeaveError<S>) -> Option<S> {
///     eprintln!("{error}");
///     match error.reason() {
///         LeaveReason::StateTooLong => error.into_socket(), // to say Close
///         _ => None,
///     }
/// }
/// # let _ = explain::<()>;
/// ```
pub struct LeaveError<S> {
    reason: LeaveReason,
    socket: Option<S>,
}

impl<S> LeaveError<S> {
    pub(super) fn new(reason: LeaveReason, socket: Option<S>) -> Self {
        Self { reason, socket }
    }

    /// Why it could not leave.
    ///
    /// ```
    /// # fn f<S>(error: &axum_activation::resume::LeaveError<S>) {
    /// use axum_activation::resume::LeaveReason;
    ///
    /// if matches!(error.reason(), LeaveReason::NotRequested) { /* serve on */ }
    /// # }
    /// ```
    #[must_use]
    pub fn reason(&self) -> &LeaveReason {
        &self.reason
    }

    /// The socket, which is as it was; `None` if it is gone.
    ///
    /// ```
    /// # fn f<S>(error: axum_activation::resume::LeaveError<S>) {
    /// if let Some(socket) = error.into_socket() {
    ///     drop(socket); // closes the connection
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn into_socket(self) -> Option<S> {
        self.socket
    }
}

impl<S> fmt::Debug for LeaveError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaveError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<S> fmt::Display for LeaveError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot leave: {}", self.reason)
    }
}

impl<S> Error for LeaveError<S> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.reason {
            LeaveReason::NotMovable(reason) => Some(reason),
            LeaveReason::Io(error) => Some(error),
            _ => None,
        }
    }
}
