//! The old process's side when every connection has moved: the final state of the service.

use super::{
    channel::{Channel, unexpected},
    error::Refusal,
    protocol::{Done, FinalTaken, Message},
    section::Section,
};

/// The last step of a handoff: every connection has moved or come back, and the new process waits for the final state.
#[derive(Debug)]
#[must_use = "the new process waits for the final state"]
pub(crate) struct FinalStatePhase {
    channel: Channel,
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
    pub(crate) async fn finish(self, sections: Vec<Section>) -> Result<Vec<FinalTaken>, Refusal> {
        let mut answers = Vec::new();
        for section in sections {
            section.send(&self.channel).await?;
            answers.push(self.answer().await?);
        }
        self.channel.send(Done {}, &[]).await?;
        Ok(answers)
    }

    async fn answer(&self) -> Result<FinalTaken, Refusal> {
        loop {
            match self.channel.receive("a `FinalTaken`").await?.message {
                Message::FinalTaken(taken) => return Ok(taken),
                Message::Trim(_) | Message::Credit(_) | Message::Leaving(_) => {}
                message => return Err(unexpected(message, "a `FinalTaken`")),
            }
        }
    }
}
