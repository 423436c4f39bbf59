//! The settings of a server that are about systemd.

use std::{fmt, future::Future, sync::Mutex, time::Duration};

use super::health::{HealthCheck, health};
use crate::{notify::Notifier, server::builder::Server};

/// What the service manager hears, and when to leave it to start the service again. `docs/systemd.md` has it in full.
impl Server {
    /// Speaks through `notifier` to the service manager, in place of [`Notifier::from_env`].
    pub fn with_notifier(mut self, notifier: Notifier) -> Self {
        self.notify.notifier = Some(notifier);
        self
    }

    /// Tells the service manager nothing, and feeds no watchdog: for the program that does so itself, and for all servers but one
    /// where a program has several.
    pub fn without_notify(self) -> Self {
        self.with_notifier(Notifier::none())
    }

    /// Starts to accept when `ready` resolves to `Ok`, and sends `READY=1` then. Connections wait in the kernel's queue until then.
    ///
    /// For what a service needs before its first request: a pool, a cache, a migration. After an error of `ready` nothing
    /// is served, and [`run`](Self::run) returns an error with its text.
    ///
    /// ```no_run
    /// # async fn fill() -> std::io::Result<()> { Ok(()) }
    /// # async fn serve(activated: axum_activation::ActivatedListeners) -> Result<(), axum_activation::Error> {
    /// use axum_activation::Server;
    ///
    /// let app = axum::Router::new();
    /// Server::new(activated).serve("http", app).ready_when(fill()).run().await?;
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

    /// How long [`ready_when`](Self::ready_when) may take; for ever by default, and then `TimeoutStartSec=` of the unit decides.
    ///
    /// `TimeoutStartSec=` is extended until then, and [`run`](Self::run) fails when it is over.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.notify.start_timeout = Some(limit);
        self
    }

    /// Feeds the watchdog (`WatchdogSec=` of the unit) only while `check` returns `Ok`.
    ///
    /// It is asked twice in that time while the server serves, and more often after an error. The error is logged, and shown in the status
    /// of the unit. A check that takes a quarter of `WatchdogSec=` is given up and asked again. Without a watchdog it is not asked.
    /// Without a check, it is enough that the runtime still runs tasks.
    ///
    /// ```no_run
    /// # fn serve(server: axum_activation::Server) -> axum_activation::Server {
    /// use tokio::net::TcpStream;
    ///
    /// server.health_check(|| async { TcpStream::connect("127.0.0.1:5432").await.map(drop) })
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
    /// For services that are started by their sockets: the manager keeps those, and starts the service again when somebody connects.
    /// Where a socket was bound by this process nobody would, so it stays. A connection that comes just then is served here and keeps
    /// the process, or waits in the queue for the next.
    ///
    /// The unit needs `StartLimitIntervalSec=0`, and must not have `Restart=always`.
    pub fn idle_exit(mut self, time: Duration) -> Self {
        self.notify.idle_exit = Some(time);
        self
    }
}
