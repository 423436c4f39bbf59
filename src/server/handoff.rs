//! What a server is told about handoffs.

use std::{ffi::OsString, future::Future, path::PathBuf, time::Duration};

use super::{Server, succession::Succession};
use crate::{
    error::Error,
    handoff::{
        Handoff, PlainSuccessor, Snapshot,
        options::{BoxError, Options},
        requests::Requests,
    },
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

    /// Is met at `path` by the next process, which anybody may start, and by an operator's program
    /// ([`request_handoff`](crate::handoff::request_handoff)); takes over from the process that is met there now.
    ///
    /// A server that binds fallbacks tells the builder of its sockets instead
    /// ([`ActivatedListenersBuilder::handoff_socket`](crate::ActivatedListenersBuilder::handoff_socket)): a fallback cannot be bound as
    /// long as the predecessor has it.
    pub fn handoff_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.handoff.options.socket = Some(path.into());
        self
    }

    /// The users beside its own whose processes this one takes over from and hands over to, at [`handoff_socket`](Self::handoff_socket);
    /// none by default, and root is no exception. See
    /// [`ActivatedListenersBuilder::handoff_peers`](crate::ActivatedListenersBuilder::handoff_peers), which a server that tells the builder
    /// its path tells this, too.
    pub fn handoff_peers(mut self, users: impl IntoIterator<Item = u32>) -> Self {
        self.handoff.options.peers.extend(users);
        self
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
    pub fn draining_generations(mut self, most: u32) -> Self {
        self.handoff.options.draining = most;
        self
    }

    /// Whether this process may start the next one itself, at SIGHUP, SIGUSR2, [`Handoff::start`] or
    /// [`request_handoff`](crate::handoff::request_handoff).
    ///
    /// Without it the server decides at its start, logs the decision (a refusal at WARN), and refuses where a successful handoff would
    /// end the service: as PID 1, under a supervisor or a container's init, under systemd without `Type=notify`, as the leader of a
    /// terminal's session. `docs/handoff.md` has the rules. `true` allows it always, `false` never. A handoff [at a path](Self::handoff_socket) is always allowed.
    ///
    /// ```no_run
    /// # async fn serve(server: axum_activation::Server) -> Result<axum_activation::DrainReport, axum_activation::Error> {
    /// // The supervisor starts the next process, which takes over at the path.
    /// server.handoff_by_spawn(false).handoff_socket("/run/app/handoff.sock").run().await
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
    pub fn successor_variable(mut self, name: impl Into<OsString>, value: Option<OsString>) -> Self {
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

    /// A part of the service's state that goes to the next process before that is ready.
    ///
    /// `export` runs here, while this process goes on serving. `import` runs in the next process before it is ready; an error there, or
    /// from `export`, calls the handoff off. A part that the next process does not know is left out.
    ///
    /// ```no_run
    /// # fn serve(server: axum_activation::Server) -> axum_activation::Server {
    /// use std::{convert::Infallible, sync::{Arc, Mutex}};
    /// use axum_activation::handoff::Snapshot;
    ///
    /// let sessions: Arc<Mutex<String>> = Arc::default();
    /// let exported = Arc::clone(&sessions);
    /// server.state(
    ///     "sessions",
    ///     move || {
    ///         let sessions = exported.lock().unwrap().clone();
    ///         async { Ok::<_, Infallible>(Snapshot::new(1, sessions)) }
    ///     },
    ///     move |snapshot| async move {
    ///         *sessions.lock().unwrap() = String::from_utf8(snapshot.bytes().to_vec())?;
    ///         Ok::<_, std::string::FromUtf8Error>(())
    ///     },
    /// )
    /// # }
    /// ```
    pub fn state<X, XF, S, XE, I, IF, IE>(mut self, name: impl Into<String>, export: X, import: I) -> Self
    where
        X: Fn() -> XF + Send + Sync + 'static,
        XF: Future<Output = Result<S, XE>> + Send + 'static,
        S: Into<Snapshot>,
        XE: Into<BoxError>,
        I: FnOnce(Snapshot) -> IF + Send + 'static,
        IF: Future<Output = Result<(), IE>> + Send + 'static,
        IE: Into<BoxError>,
    {
        self.handoff.options.states.add(name.into(), export, import);
        self
    }

    /// As [`state`](Self::state), exported when this process has handed over and its last request is answered: what only then is
    /// final. The next process serves already; a failure, or no answer within [`handoff_timeout`](Self::handoff_timeout), is logged and
    /// changes nothing else.
    pub fn final_state<X, XF, S, XE, I, IF, IE>(mut self, name: impl Into<String>, export: X, import: I) -> Self
    where
        X: Fn() -> XF + Send + Sync + 'static,
        XF: Future<Output = Result<S, XE>> + Send + 'static,
        S: Into<Snapshot>,
        XE: Into<BoxError>,
        I: FnOnce(Snapshot) -> IF + Send + 'static,
        IF: Future<Output = Result<(), IE>> + Send + 'static,
        IE: Into<BoxError>,
    {
        self.handoff.options.final_states.add(name.into(), export, import);
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
