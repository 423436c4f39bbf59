//! The accept loop of one route.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use tokio_util::task::AbortOnDropHandle;

use super::{
    connection::{Connection, state::State},
    limits::Limits,
    reaper::Reaper,
    route::{Incoming, MakeConnectionService},
};
use crate::{
    addr::PeerAddr,
    drain::{Drain, Tally},
    extract::ServedThrough,
    listener::{ActivatedListener, ActivatedStream},
};

/// What the connections of one route share.
#[derive(Debug)]
pub(super) struct RouteContext {
    pub(super) served: ServedThrough,
    pub(super) drain: Drain,
    pub(super) tally: Arc<Tally>,
    pub(super) limits: Limits,
    pub(super) reaper: Reaper<Arc<State>>,
}

/// An accept loop, ready to run.
#[derive(Debug)]
pub(super) struct Accepting {
    listener: ActivatedListener,
    route: Arc<RouteContext>,
    lame_duck: Duration,
    open: Option<Arc<Semaphore>>,
}

impl Accepting {
    pub(super) fn new(listener: ActivatedListener, route: RouteContext, lame_duck: Duration) -> Self {
        let open = route.limits.max_connections.map(|max| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))));
        Self { listener, route: Arc::new(route), lame_duck, open }
    }

    /// Accepts until the drain has begun and the lame duck is over, or until the one connection of `Accept=yes` has ended.
    pub(super) async fn run<M: MakeConnectionService>(mut self, mut make: M) {
        let _reaping = AbortOnDropHandle::new(tokio::spawn(reap(Arc::clone(&self.route))));
        let drain = self.route.drain.clone();
        let ended = self.listener.ended();
        let only_one = self.listener.is_one_connection();
        let mut stop = pin!(stop_accepting(&drain, self.lame_duck));
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = self.next() => accepted,
            };
            self.spawn(accepted, &mut make).await;
            if only_one {
                tokio::select! {
                    () = stop => {}
                    () = ended => {}
                }
                return;
            }
        }
        self.empty_queue(&mut make).await;
    }

    /// The next connection, once there may be one more.
    async fn next(&mut self) -> Accepted {
        let permit = match &self.open {
            // The semaphore is never closed.
            Some(open) => Arc::clone(open).acquire_owned().await.ok(),
            None => None,
        };
        let (stream, peer) = self.listener.accept().await;
        Accepted { stream, peer, permit }
    }

    /// Serves what the kernel has completed on sockets that are closed with this listener; nobody else would.
    async fn empty_queue<M: MakeConnectionService>(&mut self, make: &mut M) {
        self.listener.ignore_connects();
        let mut last = 0_u32;
        while let Some((stream, peer)) = self.listener.accept_queued() {
            self.spawn(Accepted { stream, peer, permit: None }, make).await;
            last += 1;
        }
        if last > 0 {
            tracing::debug!(listener = self.listener.name(), connections = last, "served the rest of the accept queue");
        }
    }

    async fn spawn<M: MakeConnectionService>(&self, accepted: Accepted, make: &mut M) {
        let Accepted { stream, peer, permit } = accepted;
        tracing::trace!(listener = self.listener.name(), %peer, "accepted a connection");
        let incoming = Incoming::new(&stream, &peer, self.listener.name());
        let service = tokio::select! {
            biased;
            service = make.make(incoming) => service,
            () = self.route.drain.cut_short() => return self.route.tally.cut_unserved(),
        };
        let connection = Connection::new(stream, peer, service, Arc::clone(&self.route), permit);
        tokio::spawn(connection.serve());
    }
}

/// Looks after the idle and the old; as long as connections are accepted, and then the drain does.
async fn reap(route: Arc<RouteContext>) {
    if let Err(error) = route.reaper.run().await {
        tracing::error!(%error, "cannot look after idle connections");
    }
}

#[derive(Debug)]
struct Accepted {
    stream: ActivatedStream,
    peer: PeerAddr,
    permit: Option<OwnedSemaphorePermit>,
}

/// Resolves `lame_duck` after the drain has begun, and at once when it is cut.
async fn stop_accepting(drain: &Drain, lame_duck: Duration) {
    drain.begun().await;
    if !lame_duck.is_zero() {
        tokio::select! {
            () = sleep(lame_duck) => {}
            () = drain.cut_short() => {}
        }
    }
}
