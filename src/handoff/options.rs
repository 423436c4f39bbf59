//! What a service says about its handoffs.

use std::{
    error::Error as StdError,
    ffi::OsString,
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::body::Bytes;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    error::Error,
    log,
    unwind::{Panicked, caught},
};

/// An error of the service's own.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Export = Arc<dyn Fn() -> Pending<Result<Snapshot, BoxError>> + Send + Sync>;
type Import = Box<dyn FnOnce(Snapshot) -> Pending<Result<(), BoxError>> + Send>;
type BeforeStart = Arc<dyn Fn() -> Pending<Result<(), BoxError>> + Send + Sync>;
type AfterFailure = Arc<dyn Fn(&Error) + Send + Sync>;

/// A part of a service's state, as one process gives it to the next: bytes, and a version of what they mean.
///
/// ```
/// use axum_activation::handoff::Snapshot;
///
/// let sessions = Snapshot::new(2, "alice,bob");
/// assert_eq!((sessions.version(), &sessions.bytes()[..]), (2, &b"alice,bob"[..]));
/// assert_eq!(Snapshot::from(vec![1]).version(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    version: u32,
    bytes: Bytes,
}

impl Snapshot {
    /// `bytes`, which mean what `version` of the service's own format says.
    pub fn new(version: u32, bytes: impl Into<Bytes>) -> Self {
        Self { version, bytes: bytes.into() }
    }

    /// The version that its writer gave it; 0 where it gave none.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What was written.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<B: Into<Bytes>> From<B> for Snapshot {
    fn from(bytes: B) -> Self {
        Self::new(0, bytes)
    }
}

/// How a successor is met that knows nothing of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainSuccessor {
    /// It is ready when it says `READY=1` on the notify socket that it is given (`sd_notify(3)`).
    Notifies,
    /// It is ready when it has lived for so long.
    Lives(Duration),
}

/// What is handed over, how, and how long it may take.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) timeout: Duration,
    pub(crate) socket: Option<PathBuf>,
    /// Users beside this process's own that hand over to it, or take over from it.
    pub(crate) peers: Vec<u32>,
    pub(crate) plain: Option<PlainSuccessor>,
    pub(crate) variables: Vec<(OsString, Option<OsString>)>,
    /// Where the next process starts; without it where this one did.
    pub(crate) directory: Option<PathBuf>,
    /// How many generations may drain at a time.
    pub(crate) draining: u32,
    pub(crate) signals: bool,
    /// Whether this process may start the next one; `None` leaves that to the policy.
    pub(crate) by_spawn: Option<bool>,
    pub(crate) states: Parts,
    pub(crate) final_states: Parts,
    pub(crate) before_start: Option<BeforeStart>,
    pub(crate) after_failure: Option<AfterFailure>,
}

/// Parts of the state, by name.
#[derive(Clone, Default)]
pub(crate) struct Parts(Vec<Part>);

#[derive(Clone)]
struct Part {
    name: String,
    export: Export,
    import: Arc<Mutex<Option<Import>>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            socket: None,
            peers: Vec::new(),
            plain: None,
            variables: Vec::new(),
            directory: None,
            draining: 2,
            signals: true,
            by_spawn: None,
            states: Parts::default(),
            final_states: Parts::default(),
            before_start: None,
            after_failure: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("timeout", &self.timeout)
            .field("socket", &self.socket)
            .field("plain", &self.plain)
            .finish_non_exhaustive()
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
    pub(crate) async fn run_before_start(&self) -> Result<(), String> {
        match &self.before_start {
            None => Ok(()),
            Some(hook) => {
                let hook = Arc::clone(hook);
                apart(move || hook()).await
            }
        }
    }

    /// Tells the service of a handoff that failed.
    pub(crate) fn run_after_failure(&self, error: &Error) {
        let Some(hook) = &self.after_failure else { return };
        if let Err(panicked) = caught(|| hook(error)) {
            log::error!(%panicked, "the hook on the failure of a handoff has panicked");
        }
    }
}

/// Runs a hook of the service in a task of its own: a panic there is a failure of the hook. The hook's error is printed and dropped
/// there, too, as its `Display` and its `Drop` are code of the service.
async fn apart<T: Send + 'static>(
    run: impl FnOnce() -> Pending<Result<T, BoxError>> + Send + 'static,
) -> Result<T, String> {
    let task = AbortOnDropHandle::new(tokio::spawn(async move { run().await.map_err(|error| error.to_string()) }));
    task.await.unwrap_or_else(|ended| {
        Err(match ended.try_into_panic() {
            Ok(payload) => Panicked::new(payload).to_string(),
            Err(ended) => ended.to_string(),
        })
    })
}

impl Parts {
    pub(crate) fn add<X, XF, S, XE, I, IF, IE>(&mut self, name: String, export: X, import: I)
    where
        X: Fn() -> XF + Send + Sync + 'static,
        XF: Future<Output = Result<S, XE>> + Send + 'static,
        S: Into<Snapshot>,
        XE: Into<BoxError>,
        I: FnOnce(Snapshot) -> IF + Send + 'static,
        IF: Future<Output = Result<(), IE>> + Send + 'static,
        IE: Into<BoxError>,
    {
        let export: Export = Arc::new(move || {
            let export = export();
            Box::pin(async { export.await.map(Into::into).map_err(Into::into) })
        });
        let import: Import = Box::new(move |snapshot| {
            let import = import(snapshot);
            Box::pin(async { import.await.map_err(Into::into) })
        });
        self.0.push(Part { name, export, import: Arc::new(Mutex::new(Some(import))) });
    }

    /// All of them, or which one could not be written.
    pub(crate) async fn export(&self) -> Result<Vec<(String, Snapshot)>, String> {
        let mut exported = Vec::new();
        for part in &self.0 {
            let export = Arc::clone(&part.export);
            let snapshot = apart(move || export()).await;
            let snapshot =
                snapshot.map_err(|error| format!("the state {:?} cannot be exported: {error}", part.name))?;
            exported.push((part.name.clone(), snapshot));
        }
        Ok(exported)
    }

    /// Gives one to the service. What it does not know, it does not want.
    pub(crate) async fn import(&self, name: &str, snapshot: Snapshot) -> Result<(), String> {
        let part = self.0.iter().find(|part| part.name == name);
        let import = part.and_then(|part| part.import.lock().unwrap_or_else(PoisonError::into_inner).take());
        match import {
            Some(import) => apart(move || import(snapshot))
                .await
                .map_err(|error| format!("the state {name:?} of the predecessor cannot be imported: {error}")),
            None => {
                log::info!(name, "the predecessor has handed over a state that this process does not know");
                Ok(())
            }
        }
    }
}
