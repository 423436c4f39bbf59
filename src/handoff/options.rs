//! The settings of a service for its handoffs.

use std::{ffi::OsString, fmt, future::Future, path::PathBuf, sync::Arc, time::Duration};

use super::{
    failure::failed,
    hook::{BoxError, HookFuture, run},
    state_part::StateParts,
};
use crate::{error::Error, log, unwind::caught};

type BeforeStart = Arc<dyn Fn() -> HookFuture<()> + Send + Sync>;
type AfterFailure = Arc<dyn Fn(&Error) + Send + Sync>;

/// When a successor is ready that does not use this crate.
///
/// ```
/// use std::time::Duration;
/// use axum_activation::handoff::PlainSuccessor;
///
/// let nginx = PlainSuccessor::AliveFor(Duration::from_secs(2));
/// assert_ne!(nginx, PlainSuccessor::Notify);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainSuccessor {
    /// It is ready when it says `READY=1` on the notify socket that it is given (`sd_notify(3)`).
    Notify,
    /// It is ready when it has lived for so long.
    AliveFor(Duration),
}

/// What is handed over, how, and how long it may take.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) timeout: Duration,
    pub(crate) plain: Option<PlainSuccessor>,
    pub(crate) variables: Vec<(OsString, Option<OsString>)>,
    /// Where the next process starts; without it where this one did.
    pub(crate) directory: Option<PathBuf>,
    /// How many generations may drain at a time; 1 at least.
    pub(crate) max_draining: u32,
    pub(crate) signals: bool,
    /// Whether this process may start the next one; `None` leaves that to the policy.
    pub(crate) by_spawn: Option<bool>,
    pub(crate) states: StateParts,
    pub(crate) final_states: StateParts,
    pub(crate) before_start: Option<BeforeStart>,
    pub(crate) after_failure: Option<AfterFailure>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            plain: None,
            variables: Vec::new(),
            directory: None,
            max_draining: 2,
            signals: true,
            by_spawn: None,
            states: StateParts::default(),
            final_states: StateParts::default(),
            before_start: None,
            after_failure: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("timeout", &self.timeout).field("plain", &self.plain).finish_non_exhaustive()
    }
}

impl Options {
    pub(crate) fn before_start<F, E>(&mut self, hook: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.before_start = Some(Arc::new(move || {
            let hook = hook();
            Box::pin(async { hook.await.map_err(Into::into) })
        }));
    }

    /// Runs the hook before the start of the next process.
    pub(crate) async fn run_before_start(&self) -> Result<(), Error> {
        let Some(hook) = self.before_start.clone() else { return Ok(()) };
        run(move || hook()).await.map_err(|error| failed(format!("the hook before the start says no: {error}")))
    }

    /// Tells the service of a handoff that failed.
    pub(crate) fn run_after_failure(&self, error: &Error) {
        let Some(hook) = &self.after_failure else { return };
        if let Err(panicked) = caught(|| hook(error)) {
            log::error!(%panicked, "the hook on the failure of a handoff has panicked");
        }
    }
}
