//! What a server can be set to do at handoffs.

use std::{ffi::OsString, future::Future, path::PathBuf, time::Duration};

mod roles;
pub(super) mod service;
pub(super) mod settings;

use super::builder::Server;
use crate::{
    error::Error,
    handoff::{BoxError, Handoff, PlainSuccessor, StatePart},
};

/// The next process: how it is started or met, and what it is given. `docs/reference/handoff.md` has it in full.
///
/// SIGHUP and SIGUSR2 start the next process and hand over to it, unless
/// [`without_handoff_signals`](Self::without_handoff_signals) is set. A SIGHUP that says that the terminal is gone in which this process
/// was started drains. Where a successful handoff would end the service, it is refused
/// ([`handoff_by_spawn`](Self::handoff_by_spawn)).
impl Server {
    /// The handle of this server on its handoffs: to start one, and to know when the predecessor is gone.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// let server = Server::new(activated).serve("http", app);
    /// let handoff = server.handoff();
    /// server.with_graceful_shutdown(stop).await?;
    /// assert!(handoff.start().await.unwrap_err().is_handoff_failure(), "the server has ended");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn handoff(&self) -> Handoff {
        self.handoff.channel.0.clone()
    }

    /// How long the next process may take until it is ready; 30 s by default. Then it is killed, and this one serves
    /// on.
    ///
    /// A handoff also waits so long until an older generation has ended, and until each route has stopped accepting.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::time::Duration;
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .handoff_timeout(Duration::from_secs(120)) // the new process fills a large cache
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn handoff_timeout(mut self, limit: Duration) -> Self {
        self.handoff.options.timeout = limit;
        self
    }

    /// How many processes that have handed over may still drain at a time, 1 at least; 2 by default.
    ///
    /// When as many drain already, a handoff waits until one of them has ended, before the next process is started.
    /// After [`handoff_timeout`](Self::handoff_timeout) it is refused. Each process drains until its own
    /// [`drain_timeout`](Server::drain_timeout): none is aborted for another handoff.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .max_draining(4) // clients keep WebSockets for long
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_draining(mut self, most: u32) -> Self {
        self.handoff.options.max_draining = most.max(1);
        self
    }

    /// Whether this process may start the next one itself, at SIGHUP, SIGUSR2, [`Handoff::start`] or
    /// [`request_handoff`](crate::handoff::request_handoff).
    ///
    /// Without it the server decides at its start, logs the decision (a refusal at WARN), and refuses where a
    /// successful handoff would end the service: as PID 1, under a supervisor or a container's init, under systemd
    /// without `Type=notify`, as the leader of a terminal's session. `true` allows it always, `false` never. A handoff
    /// [at a path](crate::ActivatedListenersBuilder::handoff_socket) is always allowed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// // The supervisor starts the next process, which takes over at the path.
    /// let folder = tempfile::tempdir().unwrap();
    /// let activated = ActivatedListeners::builder()
    ///     .handoff_socket(folder.path().join("handoff.sock"))
    ///     .fallback("http", "127.0.0.1:0")
    ///     .build()?;
    /// Server::new(activated).serve("http", app).handoff_by_spawn(false).with_graceful_shutdown(stop).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn handoff_by_spawn(mut self, allowed: bool) -> Self {
        self.handoff.options.by_spawn = Some(allowed);
        self
    }

    /// Leaves SIGHUP and SIGUSR2 to the program.
    ///
    /// One server of a process can have them: a handoff replaces the whole process. [`run`](Self::run) of a second one
    /// fails, so each server beside the first needs this, and so do tests that run several servers in one process. The
    /// first one's signals, or its [`handoff`](Self::handoff), then ask for the handoff.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// let activated = ActivatedListeners::builder()
    ///     .fallback("http", "127.0.0.1:0")
    ///     .fallback("admin", "127.0.0.1:0")
    ///     .build()?;
    /// let http = Server::new(activated.clone()).serve("http", app.clone()).allow_unserved();
    /// let admin = Server::new(activated).serve("admin", app).allow_unserved().without_handoff_signals();
    /// let admin = admin.with_drain(http.drain());
    /// tokio::try_join!(http.with_graceful_shutdown(stop), admin.run())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_handoff_signals(mut self) -> Self {
        self.handoff.options.signals = false;
        self
    }

    /// Sets a variable of the next process's environment, which is otherwise that of the first start; `None` removes
    /// it.
    ///
    /// The variables of the activation protocol itself (`LISTEN_FDS` and its like) cannot be changed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .successor_env("RUST_LOG", Some("info".into()))
    ///     .successor_env("DEBUG_TOKEN", None)
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn successor_env(mut self, name: impl Into<OsString>, value: Option<OsString>) -> Self {
        self.handoff.options.variables.push((name.into(), value));
        self
    }

    /// The working directory of the next process, in place of that of the first start. It is looked up when the next
    /// process starts, and its `PWD` says so.
    ///
    /// It is for a service that runs in a release behind a symbolic link, such as `/srv/app/current`: the kernel knows
    /// the working directory without the link, so that the next process would run in the old release.
    /// `Environment=PWD=/srv/app/current` in the unit does the same.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .successor_directory("/srv/app/current")
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn successor_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.handoff.options.directory = Some(path.into());
        self
    }

    /// The next process is a program that does not use this crate and takes its sockets by `sd_listen_fds(3)`:
    /// listeners go over, and this process drains as at its end.
    ///
    /// It is for a rollback to a release of before this crate. Connections do not move, and no state goes over. The
    /// sockets block in both processes from the start of the new one, so this process stops accepting first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::{Server, handoff::PlainSuccessor};
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .plain_successor(PlainSuccessor::Notify)
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn plain_successor(mut self, ready: PlainSuccessor) -> Self {
        self.handoff.options.plain = Some(ready);
        self
    }

    /// Adds a part of the service's state that the new process imports before it is ready.
    ///
    /// The old process exports it while it goes on serving, so what changes later is not in it. An error of the export
    /// or the import fails the handoff, and the old process serves on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::{convert::Infallible, string::FromUtf8Error, sync::{Arc, Mutex}};
    /// use axum_activation::{Server, handoff::{Snapshot, StatePart}};
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
    /// Server::new(activated).serve("http", app).handoff_state(part).with_graceful_shutdown(stop).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn handoff_state(mut self, part: StatePart) -> Self {
        self.handoff.options.states.add(part);
        self
    }

    /// Adds a part of the service's state that the old process exports when it has answered its last request, and the
    /// new process imports while it serves.
    ///
    /// It is for counters and the like: what changes after the commit is in it. A failure, or an export that takes
    /// longer than [`handoff_timeout`](Self::handoff_timeout), is logged and changes nothing else.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::{array::TryFromSliceError, convert::Infallible, sync::{Arc, atomic::{AtomicU64, Ordering}}};
    /// use axum_activation::{Server, handoff::StatePart};
    ///
    /// let requests = Arc::new(AtomicU64::new(0));
    /// let counted = Arc::clone(&requests);
    /// let part = StatePart::new(
    ///     "requests",
    ///     move || {
    ///         let count = counted.load(Ordering::Relaxed);
    ///         async move { Ok::<_, Infallible>(count.to_le_bytes().to_vec()) }
    ///     },
    ///     move |snapshot| async move {
    ///         requests.fetch_add(u64::from_le_bytes(snapshot.bytes()[..].try_into()?), Ordering::Relaxed);
    ///         Ok::<_, TryFromSliceError>(())
    ///     },
    /// );
    /// Server::new(activated).serve("http", app).final_handoff_state(part).with_graceful_shutdown(stop).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn final_handoff_state(mut self, part: StatePart) -> Self {
        self.handoff.options.final_states.add(part);
        self
    }

    /// Runs before each start of the next process. An error calls the handoff off, and so does a panic.
    ///
    /// It can check what the new process will need, such as that its configuration is readable:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// let server = Server::new(activated)
    ///     .serve("http", app)
    ///     .handoff_by_spawn(true)
    ///     .before_handoff(|| async { Err::<(), _>("the configuration is not valid") });
    /// let (handoff, drain) = (server.handoff(), server.drain());
    /// let running = tokio::spawn(server.run());
    /// let error = handoff.start().await.unwrap_err();
    /// assert!(error.to_string().contains("the configuration is not valid"));
    /// drain.start();
    /// running.await.unwrap()?;
    /// # drop(stop);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "PreStartProcess")]
    pub fn before_handoff<F, E>(mut self, hook: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.handoff.options.before_start(hook);
        self
    }

    /// Runs after each handoff that failed, with the reason. A panic in it is logged.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// let (failures, mut failed) = tokio::sync::mpsc::unbounded_channel();
    /// let server = Server::new(activated)
    ///     .serve("http", app)
    ///     .handoff_by_spawn(false)
    ///     .on_handoff_failure(move |error| failures.send(error.to_string()).unwrap());
    /// let (handoff, drain) = (server.handoff(), server.drain());
    /// let running = tokio::spawn(server.run());
    /// assert!(handoff.start().await.is_err());
    /// println!("page the operator: {}", failed.recv().await.unwrap());
    /// drain.start();
    /// running.await.unwrap()?;
    /// # drop(stop);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_handoff_failure(mut self, hook: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.handoff.options.after_failure = Some(std::sync::Arc::new(hook));
        self
    }
}
