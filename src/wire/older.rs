//! How many older generations drain, as one process tells the next.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Old to new, after the commit: the number of older generations that still drain has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Older {
    /// Those before old; old is one more.
    pub(crate) draining: u32,
}

/// Old to new, before `Hello`: it comes later than otherwise, as an older generation has to end first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wait {
    /// Old answers within so many milliseconds.
    pub(crate) milliseconds: u64,
}

/// How many generations before this one still drain, and what the successor knows of that.
#[derive(Debug)]
pub(super) struct OlderGenerations {
    draining: watch::Receiver<u32>,
    said: u32,
}

impl OlderGenerations {
    pub(super) fn new(draining: watch::Receiver<u32>, said: u32) -> Self {
        Self { draining, said }
    }

    /// Resolves when the successor does not know how many there are.
    pub(super) async fn news(&mut self) -> Older {
        let said = self.said;
        match self.draining.wait_for(|now| *now != said).await.map(|now| *now) {
            Ok(draining) => Older { draining },
            // This process ends.
            Err(_) => std::future::pending().await,
        }
    }

    /// The successor knows.
    pub(super) fn note_said(&mut self, draining: u32) {
        self.said = draining;
    }
}
