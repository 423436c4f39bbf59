//! The accept loop of one route.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedReceiver, oneshot},
    time::sleep,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker, task_tracker::TaskTrackerToken};

use super::{
    connection::{Connection, moving::Arrival, state::State},
    exit::Exit,
    limits::Limits,
    reaper::Reaper,
    route::{IncomingConnection, MakeConnectionService},
};
use crate::{
    addr::PeerAddr,
    drain::{Counters, Drain},
    extract::ServedThrough,
    listener::{ActivatedListener, ActivatedStream},
    log,
    transit::IdleConnection,
    unwind::Caught,
};

/// What the connections of one route share.
#[derive(Debug)]
pub(super) struct RouteContext {
    pub(super) served: ServedThrough,
    pub(super) drain: Drain,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: Limits,
    pub(super) reaper: Arc<Reaper<Arc<State>>>,
    pub(super) exit: Arc<Exit>,
}

/// What an accept loop is told while it runs.
#[derive(Debug)]
pub(super) enum Order {
    /// Serve this connection: it was started elsewhere.
    Adopt(Arrived),
    /// Accept, or leave that to others for now; and say when that is so.
    Accept(bool, Option<oneshot::Sender<()>>),
    /// Accept what waits at sockets that this process alone has, and close them.
    CloseOwn(oneshot::Sender<()>),
    /// Accept, and serve what comes from now on in this context: the last drain was called off.
    Renew(Arc<RouteContext>),
    /// Nothing comes any more.
    End,
}

/// A connection that was started elsewhere.
#[derive(Debug)]
pub(super) struct Arrived {
    connection: Box<IdleConnection>,
    /// It was to move and could not, so it ends here.
    stays: bool,
}

impl Arrived {
    /// To be served as any other.
    pub(super) fn again(connection: IdleConnection) -> Self {
        Self { connection: Box::new(connection), stays: false }
    }

    /// To be served until it can end.
    pub(super) fn to_stay(connection: IdleConnection) -> Self {
        Self { connection: Box::new(connection), stays: true }
    }
}

/// An accept loop, ready to run.
#[derive(Debug)]
pub(super) struct Accepting {
    listener: ActivatedListener,
    host: Host,
    orders: UnboundedReceiver<Order>,
    accepts: bool,
    tokens: Tokens,
}

/// What a loop and those that it works with wait for.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Held until nothing is accepted any more.
    pub(super) accepting: TaskTrackerToken,
    /// What still brings connections that were started elsewhere.
    pub(super) arrivals: TaskTracker,
}

/// What a loop serves connections with.
#[derive(Debug)]
struct Host {
    name: Arc<str>,
    route: Arc<RouteContext>,
    open: Option<Arc<Semaphore>>,
}

impl Accepting {
    /// One that accepts when it is told to.
    pub(super) fn new(
        listener: ActivatedListener,
        route: RouteContext,
        orders: UnboundedReceiver<Order>,
        tokens: Tokens,
    ) -> Self {
        let open = route.limits.max_connections.map(|max| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))));
        let host = Host { name: listener.shared_name(), route: Arc::new(route), open };
        Self { listener, host, orders, accepts: false, tokens }
    }

    /// Accepts until the drain has started and the lame duck is over, or until the one connection of `Accept=yes` has ended.
    pub(super) async fn run<M: MakeConnectionService>(self, mut make: M) {
        let Self { mut listener, mut host, mut orders, mut accepts, tokens } = self;
        let _reaping = AbortOnDropHandle::new(tokio::spawn(reap(Arc::clone(&host.route.reaper))));
        let ended = listener.ended();
        let only_one = listener.is_one_connection();
        let mut stop = host.stop();
        loop {
            let turn = tokio::select! {
                biased;
                () = &mut stop => break,
                order = orders.recv() => Turn::Order(order.unwrap_or(Order::End)),
                accepted = next(&mut listener, host.open.as_ref()), if accepts => Turn::Accepted(accepted),
            };
            match turn {
                Turn::Accepted(accepted) => {
                    host.spawn(accepted, &mut make).await;
                    if only_one {
                        tokio::select! {
                            () = stop => {}
                            () = ended => {}
                        }
                        return;
                    }
                }
                Turn::Order(Order::Adopt(arrived)) => host.adopt(arrived, &mut make).await,
                Turn::Order(Order::Accept(accept, done)) => {
                    accepts = accept;
                    done.map(|done| done.send(()));
                }
                Turn::Order(Order::Renew(route)) => {
                    (host.route, accepts) = (route, true);
                    stop = host.stop();
                }
                Turn::Order(Order::CloseOwn(done)) => {
                    host.empty_queue(&mut listener, &mut make).await;
                    listener.close_own();
                    let _ = done.send(());
                }
                Turn::Order(Order::End) => break,
            }
        }
        host.empty_queue(&mut listener, &mut make).await;
        drop(listener);
        host.adopt_the_last(orders, tokens, &mut make).await;
    }
}

impl Host {
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(stop_accepting(self.route.drain.clone(), self.route.limits.lame_duck))
    }

    /// Serves what the kernel has completed on sockets that are closed with this listener; nobody else would. Where descriptors are
    /// out, as connections end.
    async fn empty_queue<M: MakeConnectionService>(&self, listener: &mut ActivatedListener, make: &mut M) {
        listener.ignore_connects();
        let mut last = 0_u32;
        let mut aborted = pin!(self.route.drain.aborted());
        loop {
            let queued = tokio::select! {
                biased;
                queued = listener.accept_last() => queued,
                () = &mut aborted => {
                    log::warn!(listener = &*self.name, "aborted while connections waited in the accept queue for a descriptor");
                    break;
                }
            };
            let Some((stream, peer)) = queued else { break };
            self.spawn(Accepted { stream, peer, permit: None }, make).await;
            last += 1;
        }
        if last > 0 {
            log::debug!(listener = &*self.name, connections = last, "served the rest of the accept queue");
        }
    }

    /// Serves what was sent here before it was known that nothing is taken any more, and what still arrives; and while connections
    /// leave, those that come back.
    async fn adopt_the_last<M: MakeConnectionService>(
        &self,
        mut orders: UnboundedReceiver<Order>,
        tokens: Tokens,
        make: &mut M,
    ) {
        let Tokens { accepting, arrivals } = tokens;
        loop {
            let order = tokio::select! {
                biased;
                () = self.route.drain.aborted() => break,
                Some(order) = orders.recv() => order,
                () = arrivals.wait() => break,
            };
            self.adopt_if(order, make).await;
        }
        drop(accepting);
        while self.route.drain.pauses() {
            let order = tokio::select! {
                biased;
                () = self.route.drain.aborted() => break,
                order = orders.recv() => order.unwrap_or(Order::End),
            };
            if matches!(order, Order::End) {
                break;
            }
            self.adopt_if(order, make).await;
        }
        orders.close();
        while let Some(order) = orders.recv().await {
            self.adopt_if(order, make).await;
        }
    }

    async fn adopt_if<M: MakeConnectionService>(&self, order: Order, make: &mut M) {
        if let Order::Adopt(arrived) = order {
            self.adopt(arrived, make).await;
        }
    }

    /// Serves a connection that was started elsewhere, whatever the limit: it is there already.
    async fn adopt<M: MakeConnectionService>(&self, arrived: Arrived, make: &mut M) {
        let arrival = match Arrival::register(*arrived.connection) {
            Ok(arrival) => arrival,
            Err(error) => {
                log::debug!(listener = &*self.name, %error, "a client was gone before its connection had moved");
                return;
            }
        };
        let Some(service) = self.service(&arrival.stream, &arrival.peer, make).await else { return };
        let permit = self.open.as_ref().and_then(|open| Arc::clone(open).try_acquire_owned().ok());
        let connection = Connection::resumed(arrival, service, Arc::clone(&self.route), permit);
        if arrived.stays {
            connection.retire();
        }
        tokio::spawn(connection.serve());
    }

    async fn spawn<M: MakeConnectionService>(&self, accepted: Accepted, make: &mut M) {
        let Accepted { stream, peer, permit } = accepted;
        log::trace!(listener = &*self.name, %peer, "accepted a connection");
        let Some(service) = self.service(&stream, &peer, make).await else { return };
        let connection = Connection::new(stream, peer, service, Arc::clone(&self.route), permit);
        tokio::spawn(connection.serve());
    }

    /// The service of one connection; `None` when the drain was aborted before there was one, or making it has panicked.
    async fn service<M: MakeConnectionService>(
        &self,
        stream: &ActivatedStream,
        peer: &PeerAddr,
        make: &mut M,
    ) -> Option<M::Service> {
        // Asking for the future is code of the service, too.
        let made = Caught::new(async { make.make(IncomingConnection::new(stream, peer, &self.name)).await });
        tokio::select! {
            biased;
            made = made => match made {
                Ok(service) => Some(service),
                Err(panicked) => {
                    log::error!(listener = &*self.name, %peer, %panicked, "no service for a connection, closing it");
                    self.route.counters.failed_unserved();
                    None
                }
            },
            () = self.route.drain.aborted() => {
                self.route.counters.abort_unserved();
                None
            }
        }
    }
}

/// The next connection, once there may be one more.
async fn next(listener: &mut ActivatedListener, open: Option<&Arc<Semaphore>>) -> Accepted {
    let permit = match open {
        // The semaphore is never closed.
        Some(open) => Arc::clone(open).acquire_owned().await.ok(),
        None => None,
    };
    let (stream, peer) = listener.accept().await;
    Accepted { stream, peer, permit }
}

/// Looks after the idle and the old; as long as connections are accepted, and then the drain does.
async fn reap(reaper: Arc<Reaper<Arc<State>>>) {
    if let Err(error) = reaper.run().await {
        log::error!(%error, "cannot look after idle connections");
    }
}

enum Turn {
    Accepted(Accepted),
    Order(Order),
}

#[derive(Debug)]
struct Accepted {
    stream: ActivatedStream,
    peer: PeerAddr,
    permit: Option<OwnedSemaphorePermit>,
}

/// Resolves `lame_duck` after the drain has started, and at once when it is aborted. With a successor the loop is told when to end, as
/// connections pass through it on their way.
async fn stop_accepting(drain: Drain, lame_duck: Duration) {
    drain.started().await;
    if drain.has_successor() {
        drain.aborted().await;
    } else if !lame_duck.is_zero() {
        tokio::select! {
            () = sleep(lame_duck) => {}
            () = drain.aborted() => {}
        }
    }
}
