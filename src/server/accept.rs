//! The accept loop of one route: one task that accepts connections, serves those that come from elsewhere, and ends in
//! order.
//!
//! Everything that happens to a route while it runs comes as a command. A command is a branch of the loop beside
//! `accept`, and comes before it: a pause is then answered at once, also under a flood of connections.
//!
//! The end has an order, so that no connection falls between two owners:
//!
//! 1. Accepting ends: the drain has started and the lame duck is over, or `End` has come.
//! 2. The accept queue of sockets that this process alone has is emptied. Nothing else would serve what is in it.
//! 3. The listener is dropped, which closes its sockets.
//! 4. Commands are served that were sent before, and while connections leave, those that come back.
//! 5. The channel is closed, and what is in it is served. A connection that is sent later goes back to its sender,
//!    which closes it.
//!
//! The loop ends then. Connections run in tasks of their own, and the drain waits for those by their reservations.

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
    connection::{Connection, context::RouteContext, transferred::TransferredConnection},
    incoming::{IncomingConnection, MakeConnectionService},
    reaper::Reaper,
};
use crate::{
    addr::PeerAddr,
    drain::Drain,
    idle_connection::IdleConnection,
    listener::{ActivatedListener, ActivatedStream},
    log,
    unwind::Caught,
};

/// What the accept loop of a route is to do while it runs.
#[derive(Debug)]
pub(super) enum AcceptCommand {
    /// Serve this connection, which was accepted earlier.
    Adopt(Box<IdleConnection>),
    /// Serve this connection until it can close: it was to move and could not.
    Finish(Box<IdleConnection>),
    /// Accept, or leave that to others for now; and say when that is so.
    Accept(bool, Option<oneshot::Sender<()>>),
    /// Accept what waits at sockets that this process alone has, and close them.
    CloseOwn(oneshot::Sender<()>),
    /// Accept, and serve later connections in this context: the last drain was called off.
    Renew(Arc<RouteContext>),
    /// Stop: nothing comes any more.
    End,
}

impl AcceptCommand {
    pub(super) fn adopt(connection: IdleConnection) -> Self {
        Self::Adopt(Box::new(connection))
    }

    pub(super) fn finish(connection: IdleConnection) -> Self {
        Self::Finish(Box::new(connection))
    }
}

/// An accept loop, ready to run.
#[derive(Debug)]
pub(super) struct AcceptLoop {
    listener: ActivatedListener,
    spawner: ConnectionSpawner,
    /// Not bounded by itself: an entry is a connection that is open, or one of a few commands of a handoff.
    commands: UnboundedReceiver<AcceptCommand>,
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
struct ConnectionSpawner {
    name: Arc<str>,
    route: Arc<RouteContext>,
    open: Option<Arc<Semaphore>>,
}

impl AcceptLoop {
    /// A loop that accepts after [`AcceptCommand::Accept`].
    pub(super) fn new(
        listener: ActivatedListener,
        route: RouteContext,
        commands: UnboundedReceiver<AcceptCommand>,
        tokens: Tokens,
    ) -> Self {
        let open = route.limits.places();
        let spawner = ConnectionSpawner { name: listener.shared_name(), route: Arc::new(route), open };
        Self { listener, spawner, commands, accepts: false, tokens }
    }

    /// Accepts until the drain has started and the lame duck is over, or until the one connection of `Accept=yes` has ended.
    pub(super) async fn run<M: MakeConnectionService>(self, mut make: M) {
        let Self { mut listener, mut spawner, mut commands, mut accepts, tokens } = self;
        let _reaping = AbortOnDropHandle::new(tokio::spawn(reap(Arc::clone(&spawner.route.reaper))));
        #[cfg(feature = "tls")]
        let _watching = spawner.route.encryption.as_ref().map(|encryption| {
            let (tls, expiring) = (encryption.tls.clone(), encryption.tls.clone());
            spawner.route.counters.certificate(move || expiring.expires());
            AbortOnDropHandle::new(tokio::spawn(async move { tls.watch_validity().await }))
        });
        let ended = listener.ended();
        let only_one = listener.is_one_connection();
        let mut stop = spawner.stop();
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                command = commands.recv() => match command.unwrap_or(AcceptCommand::End) {
                    AcceptCommand::Accept(accept, done) => {
                        accepts = accept;
                        done.map(|done| done.send(()));
                    }
                    AcceptCommand::Renew(route) => {
                        (spawner.route, accepts) = (route, true);
                        stop = spawner.stop();
                    }
                    AcceptCommand::CloseOwn(done) => {
                        spawner.drain_accept_queue(&mut listener, &mut make).await;
                        listener.close_own();
                        let _ = done.send(());
                    }
                    AcceptCommand::End => break,
                    command => spawner.serve_command(command, &mut make).await,
                },
                accepted = next(&mut listener, spawner.open.as_ref()), if accepts => {
                    spawner.spawn(accepted, &mut make).await;
                    if only_one {
                        return either(stop, ended).await;
                    }
                }
            }
        }
        spawner.drain_accept_queue(&mut listener, &mut make).await;
        drop(listener);
        spawner.drain_commands(commands, tokens, &mut make).await;
    }
}

impl ConnectionSpawner {
    /// Resolves when accepting is to end.
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(stop_accepting(self.route.drain.clone(), self.route.limits.lame_duck))
    }

    /// Serves what the kernel has completed on sockets that are closed with this listener: no other process can. Without a free descriptor it
    /// goes on as connections end.
    async fn drain_accept_queue<M: MakeConnectionService>(&self, listener: &mut ActivatedListener, make: &mut M) {
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
    async fn drain_commands<M: MakeConnectionService>(
        &self,
        mut commands: UnboundedReceiver<AcceptCommand>,
        tokens: Tokens,
        make: &mut M,
    ) {
        let Tokens { accepting, arrivals } = tokens;
        loop {
            let command = tokio::select! {
                biased;
                () = self.route.drain.aborted() => break,
                Some(command) = commands.recv() => command,
                () = arrivals.wait() => break,
            };
            self.serve_command(command, make).await;
        }
        drop(accepting);
        while self.route.drain.stores() {
            let command = tokio::select! {
                biased;
                () = self.route.drain.aborted() => break,
                command = commands.recv() => command.unwrap_or(AcceptCommand::End),
            };
            if matches!(command, AcceptCommand::End) {
                break;
            }
            self.serve_command(command, make).await;
        }
        commands.close();
        while let Some(command) = commands.recv().await {
            self.serve_command(command, make).await;
        }
    }

    async fn serve_command<M: MakeConnectionService>(&self, command: AcceptCommand, make: &mut M) {
        match command {
            AcceptCommand::Adopt(connection) => self.adopt(*connection, false, make).await,
            AcceptCommand::Finish(connection) => self.adopt(*connection, true, make).await,
            _ => {}
        }
    }

    /// Serves a connection that was accepted earlier, whatever the limit: it is open already.
    async fn adopt<M: MakeConnectionService>(&self, connection: IdleConnection, finishes: bool, make: &mut M) {
        let transferred = match TransferredConnection::register(connection) {
            Ok(transferred) => transferred,
            Err(error) => {
                log::debug!(listener = &*self.name, %error, "a client was gone before its connection had moved");
                return;
            }
        };
        let Some(service) = self.service(&transferred.stream, &transferred.peer, make).await else { return };
        let permit = self.open.as_ref().and_then(|open| Arc::clone(open).try_acquire_owned().ok());
        let connection = Connection::resumed(transferred, service, Arc::clone(&self.route), permit);
        if finishes {
            connection.finish_here();
        }
        // Boxed first, as tokio moves a future that it is given from place to place.
        tokio::spawn(Box::pin(connection.serve()));
    }

    async fn spawn<M: MakeConnectionService>(&self, accepted: Accepted, make: &mut M) {
        let Accepted { stream, peer, permit } = accepted;
        log::trace!(listener = &*self.name, %peer, "accepted a connection");
        let Some(service) = self.service(&stream, &peer, make).await else { return };
        let connection = Connection::new(stream, peer, service, Arc::clone(&self.route), permit);
        // Boxed first, as tokio moves a future that it is given from place to place.
        tokio::spawn(Box::pin(connection.serve()));
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
async fn reap(reaper: Arc<Reaper>) {
    if let Err(error) = reaper.run().await {
        log::error!(%error, "cannot look after idle connections");
    }
}

async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        () = one => {}
        () = other => {}
    }
}

#[derive(Debug)]
struct Accepted {
    stream: ActivatedStream,
    peer: PeerAddr,
    permit: Option<OwnedSemaphorePermit>,
}

/// Resolves `lame_duck` after the drain has started, and at once when it is aborted. With a successor the loop ends by a command, as
/// connections pass through it on their way.
async fn stop_accepting(drain: Drain, lame_duck: Duration) {
    drain.started().await;
    if drain.has_successor() {
        drain.aborted().await;
    } else if !lame_duck.is_zero() {
        either(sleep(lame_duck), drain.aborted()).await;
    }
}
