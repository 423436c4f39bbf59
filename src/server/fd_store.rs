//! systemd's fd store under a server: what the server takes from there at its start, and what it leaves there when it
//! stops.
//!
//! A stop that ends a `systemctl restart` and one that ends a `systemctl stop` look the same to the service. So
//! connections go to the store at every stop by systemd, and `systemctl stop` makes systemd close what is there.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::{
    builder::Server,
    routes::{Routes, adopt},
};
use crate::{
    drain::DrainReport,
    fdstore::{Store, StoredConnections, forget_listeners},
    log,
    notify::Notifier,
};

impl Server {
    /// Uses `max` places of the service manager's fd store (`FileDescriptorStoreMax=` of the unit), so that a plain
    /// `systemctl restart` closes no idle connection; 0 for none. systemd 254 and later say in `FDSTORE` how many there
    /// are: then this is not needed, and takes no more than that.
    ///
    /// - At SIGTERM the connections on which nothing happens go to the store, then those that are being answered, each
    ///   when its answer is sent: HTTP/1, and HTTP/2 without an open stream. WebSockets and streams go there when their
    ///   handlers leave them. The next process takes them from there.
    /// - A connection that cannot move, or finds the store full, ends as at any drain.
    /// - Listeners that this process has bound itself are in the store as long as it serves, so they also outlive a
    ///   crash.
    /// - `systemctl stop` closes all of it.
    ///
    /// Before systemd 254 the service cannot know that `max` is more than the unit has: systemd would close the rest
    /// without an answer.
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
    ///     .fd_store(512) // FileDescriptorStoreMax=512
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "FileDescriptorStoreMax")]
    pub fn fd_store(mut self, max: usize) -> Self {
        self.fd_store = Some(max);
        self
    }
}

/// What a server keeps in the fd store, and takes from there.
#[derive(Debug)]
pub(super) struct FdStoreTask {
    notifier: Notifier,
    store: Option<Arc<Store>>,
    taking: Option<JoinHandle<()>>,
}

impl FdStoreTask {
    /// The store of this unit, with the room that systemd says it has, or `max` of it.
    pub(super) fn new(notifier: Notifier, max: Option<usize>) -> Self {
        let max = match (max, notifier.fd_store_max()) {
            (Some(wanted), Some(there)) => wanted.min(there),
            (wanted, there) => wanted.or(there).unwrap_or(0),
        };
        let store = Store::new(&notifier, max).map(Arc::new);
        Self { notifier, store, taking: None }
    }

    /// Keeps the listeners from now on, and serves the connections of the process before.
    pub(super) fn start(&mut self, serving: &Routes) {
        let activated = serving.activated();
        // No other process can serve the one connection of `Accept=yes`.
        self.store.take_if(|_| activated.one_connection().is_some());
        let kept = match &self.store {
            Some(store) => store.keep_listeners(activated),
            None => forget_listeners(&self.notifier, activated),
        };
        if let Err(error) = kept {
            log::warn!(%error, "the listeners cannot be duplicated, so they do not outlive a crash");
        }
        if let Some(stored) = StoredConnections::of(activated) {
            let (notifier, routes) = (self.notifier.clone(), serving.handles().to_vec());
            // A drain that begins meanwhile waits for them.
            self.taking = Some(tokio::spawn(serving.arrivals().track_future(async move {
                for connection in stored.take(&notifier).await {
                    adopt(&routes, connection);
                }
            })));
        }
    }

    /// Leaves the listeners to a plain successor. If it ends, systemd passes them to the next process under names that it knows.
    pub(super) fn leave_plainly(&self, serving: &Routes) {
        let left = self.store.as_ref().map(|store| store.keep_listeners_plainly(serving.activated()));
        if let Some(Err(error)) = left {
            log::warn!(%error, "the listeners cannot be duplicated, the fd store has them under names of this crate");
        }
    }

    /// Resolves when all connections of the process before are with their routes.
    ///
    /// # Cancel safety
    ///
    /// It only waits; drop it and ask again.
    pub(super) async fn taken(&mut self) {
        if let Some(taking) = &mut self.taking {
            let _ = taking.await;
            self.taking = None;
        }
    }

    /// Ends `serving`: what can outlive this process goes to the store if `is_restart` and there is one.
    pub(super) async fn drain(
        &self,
        serving: Routes,
        is_restart: bool,
        limit: Duration,
        abort_now: impl Future<Output = &'static str>,
    ) -> DrainReport {
        match self.store.as_ref().filter(|_| is_restart) {
            Some(store) => serving.drain_into(store, limit, abort_now).await,
            None => serving.drain(limit, abort_now).await,
        }
    }
}
