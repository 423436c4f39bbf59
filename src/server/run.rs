//! The run of a server as its caller sees it: one future.

use std::{
    fmt,
    future::{Future, IntoFuture, pending},
    mem,
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll},
};

use super::{builder::Server, notify::Announcer};
use crate::{drain::DrainReport, error::Error};

impl Server {
    /// Serves until SIGTERM or SIGINT, then drains: it stops accepting, finishes what is in flight, and aborts what is
    /// left after [`drain_timeout`](Self::drain_timeout). A second signal aborts at once; one within a second of the
    /// first is a repeat of it.
    ///
    /// With the one connection of `Accept=yes` it returns when that is served.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// let server = Server::new(activated).serve("http", app);
    /// let drain = server.drain();
    /// tokio::spawn(async move { drain.start() });
    /// let report = server.run().await?;
    /// println!("{report}"); // drained in 1.2s; http: 5120 requests, 341 connections finished, ..
    /// # drop(stop);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Before anything is served:
    ///
    /// - There is no route, or there are two of one name.
    /// - No socket of a route's name was passed or bound, or it is no stream socket, or it is taken.
    /// - A listening socket was passed that no route serves, unless [`allow_unserved`](Self::allow_unserved) is set.
    /// - Another server of this process hands over at SIGHUP, too
    ///   ([`without_handoff_signals`](Self::without_handoff_signals)).
    /// - There is no tokio runtime.
    /// - The old process does not let this one take over, or `ready_when` fails.
    ///
    /// No socket has been taken then.
    ///
    /// # Panics
    ///
    /// At once in a runtime without I/O or without timers: `enable_all` of its builder gives it both.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops accepting and aborts every connection.
    pub async fn run(mut self) -> Result<DrainReport, Error> {
        let shutdown = mem::take(&mut self.shutdown).into_inner().unwrap_or_else(PoisonError::into_inner);
        let shutdown = shutdown.unwrap_or_else(|| Box::pin(pending()));
        let (drain, stats) = (self.drain.clone(), self.stats.clone());
        let is_successor = self.activated.is_spawned();
        let announcer = Announcer::start(is_successor, &self.notify, drain, stats, self.drain_timeout);
        let ended = self.run_announced(shutdown, &announcer).await;
        announcer.finish(&ended).await;
        ended
    }
}

/// `server.await` is `server.run().await`.
impl IntoFuture for Server {
    type Output = Result<DrainReport, Error>;
    type IntoFuture = ServerFuture;

    fn into_future(self) -> ServerFuture {
        ServerFuture { run: Box::pin(self.run()) }
    }
}

/// The future of a [`Server`] that is awaited without [`run`](Server::run).
#[must_use = "futures do nothing unless they are polled"]
pub struct ServerFuture {
    run: Pin<Box<dyn Future<Output = Result<DrainReport, Error>> + Send>>,
}

impl Future for ServerFuture {
    type Output = Result<DrainReport, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.run.as_mut().poll(cx)
    }
}

impl fmt::Debug for ServerFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerFuture").finish_non_exhaustive()
    }
}
