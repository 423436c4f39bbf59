//! The settings of a server that are about systemd.

use std::{fmt, future::Future, sync::Mutex, time::Duration};

use super::health::{HealthCheck, health};
use crate::{notify::Notifier, server::builder::Server};

/// What the service manager hears, and when to leave it to start the service again. `docs/reference/notify.md` has it in full.
impl Server {
    /// Sends messages to the service manager through `notifier`, in place of [`Notifier::from_env`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::os::unix::net::UnixDatagram;
    /// use axum_activation::{Notifier, Server};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("notify");
    /// let manager = UnixDatagram::bind(&path).unwrap();
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .with_notifier(Notifier::to(&path)?)
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # manager.set_nonblocking(true).unwrap();
    /// let mut message = [0; 4096];
    /// assert!(manager.recv(&mut message).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_notifier(mut self, notifier: Notifier) -> Self {
        self.notify.notifier = Some(notifier);
        self
    }

    /// Sends the service manager nothing, and feeds no watchdog: for the program that does so itself, and for all
    /// servers but one where a program has several.
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
    ///     .without_notify()
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_notify(self) -> Self {
        self.with_notifier(Notifier::none())
    }

    /// Starts to accept when `ready` resolves, and sends `READY=1` then. Connections wait in the kernel's queue until
    /// then.
    ///
    /// It is for what a service needs before its first request: a pool, a cache, a migration. An error ends
    /// [`run`](Self::run), and the old process of a handoff serves on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// # async fn fill() -> std::io::Result<()> { Ok(()) }
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .ready_when(async { fill().await })
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ready_when<F, E>(mut self, ready: F) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        self.notify.ready_when = Some(Mutex::new(health(ready)));
        self
    }

    /// How long [`ready_when`](Self::ready_when) may take; for ever by default, and then `TimeoutStartSec=` of the unit
    /// decides.
    ///
    /// `TimeoutStartSec=` is extended until then (`EXTEND_TIMEOUT_USEC=`), and [`run`](Self::run) fails when it is
    /// over:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::time::Duration;
    /// use axum_activation::Server;
    ///
    /// let error = Server::new(activated)
    ///     .serve("http", app)
    ///     .ready_when(std::future::pending::<Result<(), String>>())
    ///     .start_timeout(Duration::from_millis(10))
    ///     .run()
    ///     .await
    ///     .unwrap_err();
    /// assert!(error.to_string().contains("it is not ready after 10ms"));
    /// # drop(stop);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.notify.start_timeout = Some(limit);
        self
    }

    /// Feeds the watchdog (`WatchdogSec=` of the unit) only as long as `check` says that the service is well.
    ///
    /// It is asked twice in that time while the server serves, and four times as often while it says that something is
    /// wrong. One that takes half as long as that is given up and asked again. Without a watchdog it is not asked.
    /// Without a check, that the runtime still runs tasks is enough.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    /// use tokio::net::TcpStream;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .health_check(|| async { TcpStream::connect("127.0.0.1:5432").await.map(drop) })
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn health_check<C, F, E>(mut self, check: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        self.notify.health_check = Some(HealthCheck::new(check));
        self
    }

    /// Ends in order when no connection was open for `time`, and an eighth longer at most; never by default.
    ///
    /// It is for services that are started by their sockets: systemd keeps those, and starts the service again when a
    /// client connects. Where a socket was bound by this process systemd does not have it, so the process stays. A
    /// connection that comes just then is served here and keeps the process, or waits in the queue for the next.
    ///
    /// The unit needs `StartLimitIntervalSec=0`, and must not have `Restart=always`.
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
    ///     .idle_exit(Duration::from_secs(600))
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn idle_exit(mut self, time: Duration) -> Self {
        self.notify.idle_exit = Some(time);
        self
    }
}
