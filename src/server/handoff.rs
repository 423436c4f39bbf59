//! What a server is told about handoffs.

use std::{ffi::OsString, future::Future, path::PathBuf, time::Duration};

use super::{Server, succession::Succession};
use crate::{
    error::Error,
    handoff::{Handoff, PlainSuccessor, StatePart, hook::BoxError, options::Options, requests::Requests},
};

/// The next process: how it is started or met, and what it is given. `docs/handoff.md` has it in full.
///
/// SIGHUP and SIGUSR2 start the next process and hand over to it, unless
/// [`without_handoff_signals`](Self::without_handoff_signals) is set. A SIGHUP that says that the terminal is gone in which this process
/// was started drains. Where a successful handoff would end the service, it is refused
/// ([`handoff_by_spawn`](Self::handoff_by_spawn)).
impl Server {
    /// The handle of this server on its handoffs: to ask for one, and to know when the predecessor is gone.
    #[must_use]
    pub fn handoff(&self) -> Handoff {
        self.handoff.handle.clone()
    }

    /// How long the next process may take until it is ready; 30 s by default. Then it is killed, and this one serves on. As long waits a
    /// handoff until an older generation has ended, and until each route has stopped accepting.
    pub fn handoff_timeout(mut self, limit: Duration) -> Self {
        self.handoff.options.timeout = limit;
        self
    }

    /// How many processes that have handed over may still drain at a time, 1 at least; 2 by default.
    ///
    /// When as many drain already, a handoff waits until one of them has ended, before the next process is started. After
    /// [`handoff_timeout`](Self::handoff_timeout) it is refused. Each process drains until its own
    /// [`drain_timeout`](Server::drain_timeout): none is aborted for another handoff.
    pub fn max_draining(mut self, most: u32) -> Self {
        self.handoff.options.draining = most;
        self
    }

    /// Whether this process may start the next one itself, at SIGHUP, SIGUSR2, [`Handoff::start`] or
    /// [`request_handoff`](crate::handoff::request_handoff).
    ///
    /// Without it the server decides at its start, logs the decision (a refusal at WARN), and refuses where a successful handoff would
    /// end the service: as PID 1, under a supervisor or a container's init, under systemd without `Type=notify`, as the leader of a
    /// terminal's session. `docs/handoff.md` has the rules. `true` allows it always, `false` never. A handoff
    /// [at a path](crate::ActivatedListenersBuilder::handoff_socket) is always allowed.
    ///
    /// ```no_run
    /// # async fn serve(app: axum::Router) -> Result<axum_activation::DrainReport, axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// // The supervisor starts the next process, which takes over at the path.
    /// let activated = ActivatedListeners::builder().handoff_socket("/run/app/handoff.sock").fallback("http", "0.0.0.0:80").from_env()?;
    /// Server::new(activated).serve("http", app).handoff_by_spawn(false).run().await
    /// # }
    /// ```
    pub fn handoff_by_spawn(mut self, allowed: bool) -> Self {
        self.handoff.options.by_spawn = Some(allowed);
        self
    }

    /// Leaves SIGHUP and SIGUSR2 to the program.
    ///
    /// One server of a process can have them: a handoff replaces the whole process. [`run`](Self::run) of a second one fails, so each
    /// server beside the first needs this, and so do tests that run several servers in one process. The first one's signals, or its
    /// [`handoff`](Self::handoff), then ask for the handoff.
    pub fn without_handoff_signals(mut self) -> Self {
        self.handoff.options.signals = false;
        self
    }

    /// Sets a variable of the next process's environment, which is otherwise that of the first start; `None` removes it.
    pub fn successor_env(mut self, name: impl Into<OsString>, value: Option<OsString>) -> Self {
        self.handoff.options.variables.push((name.into(), value));
        self
    }

    /// The working directory of the next process, in place of that of the first start. It is looked up when the next process starts, and
    /// its `PWD` says so.
    ///
    /// For a service that runs in a release behind a symbolic link, such as `/srv/app/current`: the kernel knows the working directory
    /// without the link, so that the next process would run in the old release. `Environment=PWD=/srv/app/current` in the unit does the
    /// same.
    ///
    /// ```no_run
    /// # fn serve(server: axum_activation::Server) -> axum_activation::Server {
    /// server.successor_directory("/srv/app/current")
    /// # }
    /// ```
    pub fn successor_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.handoff.options.directory = Some(path.into());
        self
    }

    /// The next process is a program that knows nothing of this crate and takes its sockets by `sd_listen_fds(3)`: listeners go over,
    /// and this process drains as at its end.
    pub fn plain_successor(mut self, ready: PlainSuccessor) -> Self {
        self.handoff.options.plain = Some(ready);
        self
    }

    /// Adds a part of the service's state that the new process imports before it is ready.
    ///
    /// The old process exports it while it goes on serving, so what changes later is not in it. An error of the export or the import fails the
    /// handoff, and the old process serves on.
    ///
    /// ```no_run
    /// # fn serve(server: axum_activation::Server) -> axum_activation::Server {
    /// use std::{convert::Infallible, string::FromUtf8Error, sync::{Arc, Mutex}};
    /// use axum_activation::handoff::{Snapshot, StatePart};
    ///
    /// let sessions: Arc<Mutex<String>> = Arc::default();
    /// let exported = Arc::clone(&sessions);
    /// server.handoff_state(StatePart::new(
    ///     "sessions",
    ///     move || {
    ///         let sessions = exported.lock().unwrap().clone();
    ///         async { Ok::<_, Infallible>(Snapshot::new(1, sessions)) }
    ///     },
    ///     move |snapshot| async move {
    ///         *sessions.lock().unwrap() = String::from_utf8(snapshot.bytes().to_vec())?;
    ///         Ok::<_, FromUtf8Error>(())
    ///     },
    /// ))
    /// # }
    /// ```
    pub fn handoff_state(mut self, part: StatePart) -> Self {
        self.handoff.options.states.add(part);
        self
    }

    /// Adds a part of the service's state that the old process exports when it has answered its last request, and the new process imports
    /// while it serves.
    ///
    /// For counters and the like: what changes after the commit is in it. A failure, or an export that takes longer than
    /// [`handoff_timeout`](Self::handoff_timeout), is logged and changes nothing else.
    ///
    /// ```no_run
    /// # fn serve(server: axum_activation::Server) -> axum_activation::Server {
    /// use std::{array::TryFromSliceError, convert::Infallible, sync::{Arc, atomic::{AtomicU64, Ordering}}};
    /// use axum_activation::handoff::StatePart;
    ///
    /// let requests = Arc::new(AtomicU64::new(0));
    /// let counted = Arc::clone(&requests);
    /// server.final_handoff_state(StatePart::new(
    ///     "requests",
    ///     move || {
    ///         let count = counted.load(Ordering::Relaxed);
    ///         async move { Ok::<_, Infallible>(count.to_le_bytes().to_vec()) }
    ///     },
    ///     move |snapshot| async move {
    ///         requests.fetch_add(u64::from_le_bytes(snapshot.bytes()[..].try_into()?), Ordering::Relaxed);
    ///         Ok::<_, TryFromSliceError>(())
    ///     },
    /// ))
    /// # }
    /// ```
    pub fn final_handoff_state(mut self, part: StatePart) -> Self {
        self.handoff.options.final_states.add(part);
        self
    }

    /// Runs before each start of the next process; an error calls the handoff off.
    #[doc(alias = "PreStartProcess")]
    pub fn before_handoff<F, E>(mut self, hook: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.handoff.options.before_start(hook);
        self
    }

    /// Runs after each handoff that failed, with the reason.
    pub fn on_handoff_failure(mut self, hook: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.handoff.options.after_failure = Some(std::sync::Arc::new(hook));
        self
    }

    pub(super) fn succession(&mut self) -> Succession {
        let (options, handle) = (self.handoff.options.clone(), self.handoff.handle.clone());
        let (_, nobody) = Handoff::new();
        let calls = std::mem::replace(&mut self.handoff.calls, nobody);
        Succession::new(options, handle, Requests::new(calls))
    }
}

/// What a server keeps of it until it runs.
#[derive(Debug)]
pub(super) struct Settings {
    options: Options,
    handle: Handoff,
    calls: tokio::sync::mpsc::UnboundedReceiver<crate::handoff::handle::Call>,
}

impl Default for Settings {
    fn default() -> Self {
        let (handle, calls) = Handoff::new();
        Self { options: Options::default(), handle, calls }
    }
}
