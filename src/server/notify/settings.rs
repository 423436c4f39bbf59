//! What a server is to report to systemd, and what the service adds to that.

use std::{
    fmt,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use super::health::{HealthCheck, HealthFuture};
use crate::{
    error::{Error, Kind},
    notify::Notifier,
};

/// What a server keeps of it until it runs.
#[derive(Default)]
pub(in crate::server) struct Settings {
    /// `None`: the one of the environment.
    pub(in crate::server) notifier: Option<Notifier>,
    /// Never locked: a mutex makes it `Sync`, whatever the future is.
    pub(in crate::server) ready_when: Option<Mutex<HealthFuture>>,
    pub(in crate::server) start_timeout: Option<Duration>,
    pub(in crate::server) health_check: Option<HealthCheck>,
    pub(in crate::server) idle_exit: Option<Duration>,
}

impl Settings {
    /// The notifier that is used: the one that was set, or that of the environment.
    pub(in crate::server) fn notifier(&self) -> Notifier {
        self.notifier.clone().unwrap_or_else(Notifier::from_env)
    }

    /// Resolves when the service is ready to be asked.
    pub(in crate::server) fn ready(&mut self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let ready = self.ready_when.take().map(|ready| ready.into_inner().unwrap_or_else(PoisonError::into_inner));
        let limit = self.start_timeout;
        async move {
            let ready = match (ready, limit) {
                (None, _) => Ok(()),
                (Some(ready), None) => ready.await,
                (Some(ready), Some(limit)) => timeout(limit, ready).await.unwrap_or_else(|_| Err(overdue(limit))),
            };
            ready.map_err(|reason| Kind::NotReady { reason }.into())
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("notifier", &self.notifier)
            .field("idle_exit", &self.idle_exit)
            .finish_non_exhaustive()
    }
}

fn overdue(limit: Duration) -> String {
    format!("it is not ready after {limit:?}")
}
