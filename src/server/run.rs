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
    /// Serves until SIGTERM or SIGINT, then drains: stops accepting, finishes what is in flight, aborts what is left after
    /// [`drain_timeout`](Self::drain_timeout). A second signal aborts at once; one within a second of the first is a repeat of it.
    ///
    /// With the one connection of `Accept=yes` it returns when that is served.
    ///
    /// # Errors
    ///
    /// Before anything is served: no route, two of one name, a route whose name nobody passed or bound or whose socket is no
    /// stream socket or taken, or a listening socket that was passed and that no route serves, unless
    /// [`allow_unserved`](Self::allow_unserved); another server of this process hands over at SIGHUP, too
    /// ([`without_handoff_signals`](Self::without_handoff_signals)); or there is no tokio runtime. No socket has been taken then.
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
