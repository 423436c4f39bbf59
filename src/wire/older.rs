//! How many older generations still drain: a process starts the next one only while there are few enough.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Old to new, after the commit: the number of older generations that still drain has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Older {
    /// Those before the old process, which is one more.
    pub(crate) draining: u32,
}

/// Old to new, before `Hello`: the offer comes later, as an older generation has to end first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wait {
    /// How long the new process has to wait at most.
    pub(crate) milliseconds: u64,
}

/// How many generations before this one still drain, and how many the new process knows of.
#[derive(Debug)]
pub(super) struct OlderGenerations {
    draining: watch::Receiver<u32>,
    reported: u32,
}

impl OlderGenerations {
    pub(super) fn new(draining: watch::Receiver<u32>, reported: u32) -> Self {
        Self { draining, reported }
    }

    /// Resolves when the number has changed since it was reported.
    pub(super) async fn news(&mut self) -> Older {
        let reported = self.reported;
        match self.draining.wait_for(|now| *now != reported).await.map(|now| *now) {
            Ok(draining) => Older { draining },
            // This process ends.
            Err(_) => std::future::pending().await,
        }
    }

    /// The new process knows that number.
    pub(super) fn note_reported(&mut self, draining: u32) {
        self.reported = draining;
    }
}
