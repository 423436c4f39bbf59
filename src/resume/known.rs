//! What is known of an exchange: the handler, the service and the stream note it, under one lock.

use std::task::Waker;

use super::{
    answer::Answer,
    error::NotMovable,
    stage::{Refusal, Stage},
};
use crate::handoff::Snapshot;

/// What is known of an exchange so far.
pub(super) struct Known {
    pub(super) stage: Stage,
    /// A handler has asked for `Resume`.
    pub(super) taken: bool,
    pub(super) answer: Option<Answer>,
    pub(super) refusal: Option<Refusal>,
    pub(super) not_movable: Option<NotMovable>,
    /// The last read found nothing, and no byte has been delivered since.
    pub(super) waits: bool,
    /// A message of the client is open, or one of the handler.
    pub(super) reads_message: bool,
    pub(super) writes_message: bool,
    /// What the handler of a stream has saved last.
    pub(super) saved: Option<Snapshot>,
    /// The handler wanted to leave with more than it may.
    pub(super) leaves_too_much: bool,
    /// The stream is to end for the next process.
    pub(super) leaves: bool,
    /// The socket moves when it is dropped.
    pub(super) armed: Option<Snapshot>,
    pub(super) departed: bool,
    /// Of the task that waits to read on behind the end of a message.
    pub(super) held_reader: Option<Waker>,
}

impl Known {
    pub(super) fn new(not_movable: Option<NotMovable>, saved: Option<Snapshot>) -> Self {
        Self {
            stage: Stage::Asked,
            taken: false,
            answer: None,
            refusal: None,
            not_movable,
            waits: true,
            reads_message: false,
            writes_message: false,
            saved,
            leaves_too_much: false,
            leaves: false,
            armed: None,
            departed: false,
            held_reader: None,
        }
    }
}
