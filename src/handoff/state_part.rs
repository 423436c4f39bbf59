//! The state of a service that goes from one process to the next, in parts that each have a name.
//!
//! Two releases run at a handoff, and either may be the newer one. So a part has a version, and parts that only one of
//! the two knows are left out. What a version means is for the service to say; the crate carries bytes.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::hook::{BoxError, HookFuture, run};
use crate::{
    log,
    wire::{protocol::SectionKind, section::Section},
};

type Export = Arc<dyn Fn() -> HookFuture<Snapshot> + Send + Sync>;
type Import = Box<dyn FnOnce(Snapshot) -> HookFuture<()> + Send>;

/// The content of a [`StatePart`] in transfer to the next process: bytes, and the version of the service's own format.
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
    ///
    /// An import that reads several versions lets a new release take over from an old one, and back in a rollback:
    ///
    /// ```
    /// use axum_activation::handoff::Snapshot;
    ///
    /// fn sessions(snapshot: &Snapshot) -> Result<Vec<String>, String> {
    ///     let text = String::from_utf8(snapshot.bytes().to_vec()).map_err(|error| error.to_string())?;
    ///     match snapshot.version() {
    ///         1 => Ok(text.split(',').map(str::to_owned).collect()),
    ///         2 => Ok(text.lines().map(str::to_owned).collect()),
    ///         other => Err(format!("version {other} is not known")),
    ///     }
    /// }
    /// assert_eq!(sessions(&Snapshot::new(1, "alice,bob")), sessions(&Snapshot::new(2, "alice\nbob\n")));
    /// ```
    pub fn new(version: u32, bytes: impl Into<Bytes>) -> Self {
        Self { version, bytes: bytes.into() }
    }

    /// The version that its writer gave it; 0 where it gave none.
    ///
    /// ```
    /// use axum_activation::handoff::Snapshot;
    ///
    /// assert_eq!(Snapshot::new(3, "").version(), 3);
    /// assert_eq!(Snapshot::from("text").version(), 0);
    /// ```
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What was written.
    ///
    /// ```
    /// use axum_activation::handoff::Snapshot;
    ///
    /// assert_eq!(Snapshot::from("text").bytes(), "text");
    /// ```
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

/// A part of the service's state that goes from the old process to the new one: how the old process exports it, and how the new one imports
/// it. Both processes name it the same.
///
/// [`Server::handoff_state`](crate::Server::handoff_state) and
/// [`HandoffBuilder::handoff_state`](crate::handoff::HandoffBuilder::handoff_state) hand it over before the new process is ready,
/// [`final_handoff_state`](crate::Server::final_handoff_state) when the old process has answered its last request.
///
/// A part has at most 1 GiB. A part that the new process does not know is left out, and one that the old process does not export is not
/// imported.
///
/// # Examples
///
/// ```
/// use std::{convert::Infallible, string::FromUtf8Error, sync::{Arc, Mutex}};
/// use axum_activation::handoff::{Snapshot, StatePart};
///
/// let sessions: Arc<Mutex<String>> = Arc::default();
/// let exported = Arc::clone(&sessions);
/// let part = StatePart::new(
///     "sessions",
///     move || {
///         let sessions = exported.lock().unwrap().clone();
///         async { Ok::<_, Infallible>(Snapshot::new(1, sessions)) }
///     },
///     move |snapshot| async move {
///         *sessions.lock().unwrap() = String::from_utf8(snapshot.bytes().to_vec())?;
///         Ok::<_, FromUtf8Error>(())
///     },
/// );
/// assert_eq!(format!("{part:?}"), r#"StatePart { name: "sessions", .. }"#);
/// ```
#[derive(Clone)]
pub struct StatePart {
    name: String,
    export: Export,
    /// Runs once: a process has one predecessor.
    import: Arc<Mutex<Option<Import>>>,
}

impl StatePart {
    /// The part `name`. `export` runs in each process that hands over, `import` at most once, in a process that takes
    /// over.
    ///
    /// An error of either is a failure of this part, and so is a panic. What that means for the handoff is said where
    /// the part is added.
    ///
    /// ```
    /// use std::{io, sync::{Arc, Mutex}};
    /// use axum_activation::handoff::{Snapshot, StatePart};
    ///
    /// let jobs: Arc<Mutex<Vec<u8>>> = Arc::default();
    /// let part = StatePart::new(
    ///     "jobs",
    ///     {
    ///         let jobs = Arc::clone(&jobs);
    ///         move || {
    ///             let copy = jobs.lock().unwrap().clone();
    ///             async move { Ok::<_, io::Error>(Snapshot::new(1, copy)) }
    ///         }
    ///     },
    ///     move |snapshot| async move {
    ///         if snapshot.version() != 1 {
    ///             return Err(io::Error::other("the jobs of the old process have another format"));
    ///         }
    ///         *jobs.lock().unwrap() = snapshot.bytes().to_vec();
    ///         Ok(())
    ///     },
    /// );
    /// # let _ = part;
    /// ```
    pub fn new<X, XF, S, XE, I, IF, IE>(name: impl Into<String>, export: X, import: I) -> Self
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
        Self { name: name.into(), export, import: Arc::new(Mutex::new(Some(import))) }
    }
}

impl fmt::Debug for StatePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatePart").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The parts that a service hands over at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateParts(Vec<StatePart>);

impl StateParts {
    pub(crate) fn add(&mut self, part: StatePart) {
        self.0.push(part);
    }

    /// Exports all parts.
    ///
    /// # Errors
    ///
    /// The text of an error names the part that failed.
    pub(crate) async fn export(&self, kind: SectionKind) -> Result<Vec<Section>, String> {
        let mut sections = Vec::new();
        for StatePart { name, export, .. } in &self.0 {
            let export = Arc::clone(export);
            let exported = run(move || export()).await;
            let Snapshot { version, bytes: data } =
                exported.map_err(|error| format!("the state {name:?} cannot be exported: {error}"))?;
            sections.push(Section { kind, name: name.clone(), version, data });
        }
        Ok(sections)
    }

    /// Imports one part. A part that this process does not know is logged and left out.
    pub(crate) async fn import_final(&self, section: Section) -> Result<(), String> {
        let imported = self.import(section).await;
        if let Err(problem) = &imported {
            log::error!(problem, "the final state of the predecessor is lost");
        }
        imported
    }

    /// Imports one part. A part that is not known here is logged and left out.
    pub(crate) async fn import(&self, Section { name, version, data, .. }: Section) -> Result<(), String> {
        let part = self.0.iter().find(|part| part.name == name);
        let import = part.and_then(|part| part.import.lock().unwrap_or_else(PoisonError::into_inner).take());
        let snapshot = Snapshot::new(version, data);
        match import {
            Some(import) => run(move || import(snapshot))
                .await
                .map_err(|error| format!("the state {name:?} of the predecessor cannot be imported: {error}")),
            None => {
                log::info!(name, "the predecessor has handed over a state that this process does not know");
                Ok(())
            }
        }
    }
}
