//! Whether a service may start the next process: its policy, and whether another server of this process hands over.

use std::sync::Arc;

use super::{claim::Claim, policy::SpawnPolicy};
use crate::{
    activation::ActivatedListeners,
    error::{Error, Kind},
    handoff::{failure::failed, options::Options},
};

const ANOTHER: &str = "another server of this process hands it over; ask for it there (Server::handoff)";

/// Whether a service may start the next process.
#[derive(Debug)]
pub(crate) struct SpawnPermit {
    policy: SpawnPolicy,
    pub(crate) claim: Arc<Claim>,
}

impl SpawnPermit {
    /// Decides for this process. `is_notifying` says that it notifies systemd of the new main process. With its signals it is then the only
    /// server of the process that hands over.
    ///
    /// # Errors
    ///
    /// Another server of this process hands over at the same signals.
    pub(crate) fn decide(options: &Options, activated: &ActivatedListeners, is_notifying: bool) -> Result<Self, Error> {
        let claim = Arc::new(Claim::new());
        if options.signals && !claim.take() {
            return Err(Kind::TwoCoordinators.into());
        }
        let policy = SpawnPolicy::decide(options.by_spawn, activated, is_notifying);
        // A process of `Accept=yes` has one connection, and nothing to hand over.
        if activated.one_connection().is_none() {
            policy.log(options.signals && options.by_spawn.is_none());
        }
        Ok(Self { policy, claim })
    }

    /// An error where it may not. A server without signals has the claim of the process from then on.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.policy.check()?;
        if self.claim.take() { Ok(()) } else { Err(failed(ANOTHER)) }
    }
}
