//! The old process's side when every connection has moved: the final state of the service.

use super::{
    channel::{Channel, unexpected},
    error::Refusal,
    protocol::{Done, FinalTaken, Message},
    reason::ReturnReason,
    section::Section,
};
use crate::idle_connection::IdleConnection;

/// The service of the old process, as the transfer of its connections needs it.
pub(crate) trait OldProcess {
    /// Takes back a connection that the new process has not taken. `why` decides what becomes of it: after [`ReturnReason::Died`] it may be
    /// served on, and otherwise it ends in this process.
    fn resume(&mut self, connection: IdleConnection, why: &ReturnReason);

    /// Sends no more connections, as the new process takes no more. What is left comes back by [`resume`](Self::resume) after this call, so
    /// that it does not leave again. It is not called for a single batch that is refused, nor while the new process has no room.
    fn stop_moving(&mut self, why: &ReturnReason);
}

/// The last step of a handoff: every connection has moved or come back, and the new process waits for the final state.
#[derive(Debug)]
#[must_use = "the new process waits for the final state"]
pub(crate) struct FinalStatePhase {
    channel: Channel,
}

/// The answer of the new process to one section of the final state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FinalAnswer {
    pub(crate) name: String,
    /// Why the new process could not use it.
    pub(crate) error: Option<String>,
}

impl FinalStatePhase {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Sends the sections of the final state, waits for the answer to each, and ends the handoff.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the control socket without the end: the new process takes this one for dead.
    pub(crate) async fn finish(self, sections: Vec<Section>) -> Result<Vec<FinalAnswer>, Refusal> {
        let mut answers = Vec::new();
        for section in sections {
            section.send(&self.channel).await?;
            answers.push(self.answer().await?);
        }
        self.channel.send(Done {}, &[]).await?;
        Ok(answers)
    }

    async fn answer(&self) -> Result<FinalAnswer, Refusal> {
        loop {
            match self.channel.receive("a `FinalTaken`").await?.message {
                Message::FinalTaken(FinalTaken { name, error }) => return Ok(FinalAnswer { name, error }),
                Message::Trim(_) | Message::Credit(_) | Message::Leaving(_) => {}
                message => return Err(unexpected(message, "a `FinalTaken`")),
            }
        }
    }
}
