//! The old process's side when every connection has gone: the final state.

use super::{
    channel::{Channel, unexpected},
    error::Refusal,
    protocol::{Done, FinalTaken, Message},
    reason::ReturnReason,
    section::Section,
};
use crate::idle_connection::IdleConnection;

/// The process that connections are moved away from.
pub(crate) trait OldProcess {
    /// Takes a connection back that the successor has not taken.
    fn resume(&mut self, connection: IdleConnection, why: &ReturnReason);

    /// Sends no more connections: the successor takes none. Called before the first of them is resumed, so that what comes back does
    /// not leave again.
    fn stop_moving(&mut self, why: &ReturnReason);
}

/// What is left to say when every connection has gone.
#[derive(Debug)]
#[must_use = "the successor waits for the last word"]
pub(crate) struct FinalStatePhase {
    channel: Channel,
}

/// What the successor said to one final section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FinalAnswer {
    pub(crate) name: String,
    pub(crate) error: Option<String>,
}

impl FinalStatePhase {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Sends the final sections, each with the answer of the successor, and says that nothing more comes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends without the last word: the successor takes it for this process's end.
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
