//! Why a handoff fails or ends early.

use std::{fmt, io};

use super::{packet::Malformed, version::VERSION};

/// Why one process does not go on with the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The other process has closed the control socket without a reason: it has ended.
    Gone {
        /// The message that was awaited.
        awaited: &'static str,
        /// It has not read everything that this process sent.
        left_unread: bool,
    },
    /// The other process has aborted the handoff.
    Declined {
        /// The reason that it sent.
        reason: String,
    },
    /// There is no version of the protocol that both speak.
    Version {
        /// The newest and the oldest of the other process.
        theirs: (u32, u32),
        /// The newest and the oldest of this process.
        ours: (u32, u32),
    },
    /// A message that cannot be understood.
    Malformed {
        /// What is wrong with it.
        problem: String,
        /// It may be an answer to connections. It is then unknown which connections the later answers are about.
        is_answer: bool,
    },
    /// A message in the wrong place.
    OutOfOrder {
        /// The message that came.
        came: &'static str,
        /// The message that was awaited.
        awaited: &'static str,
    },
    /// The descriptors that came cannot all be taken, or do not fit the message.
    Descriptors {
        /// What is wrong with them.
        problem: String,
    },
    /// It took too long.
    TimedOut {
        /// The message that was awaited.
        awaited: &'static str,
    },
    /// The system refused something.
    System {
        /// What was tried.
        doing: &'static str,
        /// The system's message.
        problem: String,
    },
}

impl Refusal {
    /// Whether the other process has ended, so that no other one serves what it had.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Whether the other process has ended and has not read what was asked of it.
    pub(crate) fn is_unread(&self) -> bool {
        matches!(self, Self::Gone { left_unread: true, .. })
    }

    pub(crate) fn system(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::System { doing, problem: error.to_string() }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed { problem: malformed.to_string(), is_answer: malformed.is_answer() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { awaited, .. } => {
                write!(f, "the other process closed the control socket before it sent {awaited}")
            }
            Self::Declined { reason } => write!(f, "the other process declined: {reason}"),
            Self::Version { theirs: (newest, oldest), ours: (our_newest, our_oldest) } => write!(
                f,
                "the other process speaks versions {oldest} to {newest} of the handoff, this one {our_oldest} to {our_newest}; \
                 go through a release of axum-activation that speaks both, or restart without a handoff"
            ),
            Self::Malformed { problem, .. } => write!(
                f,
                "the other process sent what is no message of the handoff (version {VERSION}): {problem}; is it \
                 another program?"
            ),
            Self::OutOfOrder { came, awaited } => {
                write!(f, "the other process sent {came} where {awaited} was to come; is it another program?")
            }
            Self::Descriptors { problem } => write!(f, "the descriptors that came cannot be used: {problem}"),
            Self::TimedOut { awaited } => {
                write!(f, "{awaited} did not come in time: the other process hangs, or has too much to do")
            }
            Self::System { doing, problem } => write!(f, "cannot {doing}: {problem}"),
        }
    }
}

impl std::error::Error for Refusal {}
