//! The routes of a server that runs: their accept loops, where their connections go, and their end.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{
        mpsc::{self, UnboundedSender},
        oneshot,
    },
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    accept::{AcceptCommand, AcceptLoop, Tokens},
    connection::context::RouteContext,
    options::{ReadyRoute, RouteSettings},
    reaper::Reaper,
    sink::{AcceptingSink, RouteSink, TAKEN},
};
use crate::{
    activation::ActivatedListeners,
    drain::{AbortOnDrop, Counters, Drain, DrainReport, Stats, UnmovedReason},
    extract::Served,
    fdstore::Store,
    idle_connection::IdleConnection,
    log,
    wire::{moved::ReplacedListener, send::SenderHandle},
};

/// How long a loop may take to end that was aborted.
const ABORT_LIMIT: Duration = Duration::from_millis(200);

/// The accept loops of a server, and what they count. Dropping it aborts every connection.
#[derive(Debug)]
pub(super) struct Routes {
    context: ServerContext,
    /// The drain that ends it: that of `context`, or a later one after the successor has died.
    drain: Drain,
    loops: TaskTracker,
    /// Those loops that still accept.
    accepting: TaskTracker,
    /// The tasks that still bring connections of other processes.
    arrivals: TaskTracker,
    routes: Vec<RouteHandle>,
    _abort_guard: AbortOnDrop,
}

/// What all routes of a server share.
#[derive(Debug)]
pub(super) struct ServerContext {
    pub(super) activated: ActivatedListeners,
    pub(super) drain: Drain,
    pub(super) stats: Stats,
}

/// The route of one name, for those that have connections for it or tell it what to do.
#[derive(Clone, Debug)]
pub(super) struct RouteHandle {
    pub(super) name: Arc<str>,
    commands: UnboundedSender<AcceptCommand>,
    sink: Arc<RouteSink>,
    counters: Arc<Counters>,
    reaper: Arc<Reaper>,
    settings: RouteSettings,
}

impl Routes {
    /// Starts to accept.
    pub(super) fn start(context: ServerContext, routes: impl Iterator<Item = ReadyRoute>) -> Self {
        let (loops, accepting, arrivals) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let mut running = Vec::new();
        for (route, settings, listener) in routes {
            let addrs: Vec<_> = listener.local_addrs().iter().map(ToString::to_string).collect();
            log::info!(name = listener.name(), addrs = addrs.join(" "), "serving");
            let (started, commands) = RouteHandle::new(listener.shared_name(), settings);
            let route_context = started.context(&context, &context.drain);
            // What goes on until everything else is done must not be waited for before.
            let (loops, accepting) = match started.settings.until_done {
                true => (context.drain.follower().1, context.drain.follower().1),
                false => (&loops, &accepting),
            };
            let tokens = Tokens { accepting: accepting.token(), arrivals: arrivals.clone() };
            loops.spawn(route.run(AcceptLoop::new(listener, route_context, commands, tokens)));
            started.send(AcceptCommand::Accept(true, None));
            running.push(started);
        }
        loops.close();
        accepting.close();
        arrivals.close();
        context.stats.fill(running.iter().map(|route| Arc::clone(&route.counters)).collect());
        let (_abort_guard, drain) = (context.drain.abort_guard(), context.drain.clone());
        Self { context, drain, loops, accepting, arrivals, routes: running, _abort_guard }
    }

    /// Resolves when no connection can come any more: with `Accept=yes`, when the one is served.
    pub(super) async fn exhausted(&self) {
        self.loops_ended().await;
    }

    async fn loops_ended(&self) {
        self.loops.wait().await;
        self.drain.follower_loops().await;
    }

    /// The handles of the routes.
    pub(super) fn handles(&self) -> &[RouteHandle] {
        &self.routes
    }

    /// The drain that ends it.
    pub(super) fn current_drain(&self) -> &Drain {
        &self.drain
    }

    pub(super) fn activated(&self) -> &ActivatedListeners {
        &self.context.activated
    }

    /// Leaves accepting to others for as long as the answer is kept. An error is the name of a route where what was accepted has no
    /// service within `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, this process accepts again.
    pub(super) async fn pause(&self, limit: Duration) -> Result<Paused<'_>, Arc<str>> {
        let (paused, until) = (Paused { routes: self, for_good: false }, Instant::now() + limit);
        let send = |route: &RouteHandle| {
            let (done, is_done) = oneshot::channel();
            route.send(AcceptCommand::Accept(false, Some(done)));
            (Arc::clone(&route.name), is_done)
        };
        for (name, is_done) in self.routes.iter().map(send).collect::<Vec<_>>() {
            // A loop that has ended does not accept either.
            drop(timeout_at(until, is_done).await.map_err(|_| name)?);
        }
        Ok(paused)
    }

    /// The tasks that still bring connections of other processes; the drain waits for them.
    pub(super) fn arrivals(&self) -> &TaskTracker {
        &self.arrivals
    }

    /// Accepts what waits at these listeners, which the successor has not, and closes them.
    /// Resolves when that is done: the drain waits for what waited there.
    pub(super) async fn close_replaced(&self, replaced: &[ReplacedListener]) {
        if replaced.is_empty() {
            return;
        }
        self.context.activated.leave_replaced(replaced);
        let send = |route: &RouteHandle| {
            let (done, is_done) = oneshot::channel();
            route.send(AcceptCommand::CloseOwn(done));
            is_done
        };
        for is_done in self.routes.iter().map(send).collect::<Vec<_>>() {
            let _ = is_done.await;
        }
    }

    /// Movable connections go to the successor from now on, or back to their routes with `None`.
    pub(super) fn redirect_to(&self, sender: Option<&SenderHandle>) {
        for route in &self.routes {
            route.sink.redirect_to(sender.map(|sender| {
                let (accepts, sender) = (sender.accepts(&route.name), sender.clone());
                Box::new(AcceptingSink { accepts, send: move |connection| sender.send(connection) }) as _
            }));
        }
    }

    /// Accepts again after the drain has started, with a drain of its own for what comes from now on; `returned` came back.
    pub(super) fn renew(&mut self, returned: Vec<IdleConnection>) {
        self.drain = self.drain.renewed();
        for route in &self.routes {
            route.send(AcceptCommand::Renew(Arc::new(route.context(&self.context, &self.drain))));
        }
        self.redirect_to(None);
        returned.into_iter().for_each(|connection| adopt(&self.routes, connection));
    }

    /// Stops accepting, and returns when every connection has ended or was aborted, after `limit` or when `abort_now` resolves.
    pub(super) async fn drain(self, limit: Duration, abort_now: impl Future<Output = &'static str>) -> DrainReport {
        self.drain.start();
        let report = self.drain.finish_or(limit, self.loops.wait(), abort_now).await;
        self.report(report)
    }

    /// As [`drain`](Self::drain), and connections go to `store` as long as that has room.
    pub(super) async fn drain_into(
        self,
        store: &Arc<Store>,
        limit: Duration,
        abort_now: impl Future<Output = &'static str>,
    ) -> DrainReport {
        for route in &self.routes {
            let (store, drain) = (Arc::clone(store), self.drain.clone());
            // What comes back must not leave again.
            let send = move |connection| store.keep(connection).inspect_err(|_| drain.stop_moving());
            // What the next process takes is not known yet. It is of this build, as a rule.
            route.sink.redirect_to(Some(Box::new(AcceptingSink { accepts: TAKEN, send })));
        }
        self.drain.start_storing();
        let mut abort_now = pin!(abort_now);
        let report = {
            let mut ended = pin!(self.drain.finish_or(limit, self.accepting.wait(), abort_now.as_mut()));
            // First this process takes the connections of the process before. Then systemd forgets them by their names, and this process
            // stores its own under the same names.
            let keep = async {
                tokio::select! {
                    () = self.arrivals.wait() => {}
                    () = self.drain.aborted() => {}
                }
                store
                    .run(self.drain.aborted(), |connection| finish(&self.routes, connection, UnmovedReason::Unsendable))
                    .await
            };
            tokio::select! {
                report = &mut ended => report,
                returned = keep => {
                    self.drain.stop_moving();
                    returned.into_iter().for_each(|connection| finish(&self.routes, connection, UnmovedReason::NoRoom));
                    ended.await
                }
            }
        };
        let (moved, unmoved) = self.context.stats.moved();
        log::info!(%moved, %unmoved, "the connections are in the fd store or have ended");
        self.end_unless_aborted(report, limit, abort_now).await
    }

    /// As [`drain`](Self::drain), when a successor accepts: the loops pass connections on until `before` resolves and all have gone.
    pub(super) async fn leave(
        &self,
        limit: Duration,
        before: impl Future<Output = ()>,
        abort_now: impl Future<Output = &'static str>,
    ) -> DrainReport {
        self.drain.finish_or(limit, before, abort_now).await
    }

    /// Ends beside another server of this process, of the same drain, that has handed over: the next process accepts what comes, and what
    /// is here stays here.
    pub(super) async fn end_beside(
        self,
        limit: Duration,
        abort_now: impl Future<Output = &'static str>,
    ) -> DrainReport {
        for route in &self.routes {
            route.send(AcceptCommand::Accept(false, None));
            let commands = route.commands.clone();
            route.sink.redirect_to(Some(Box::new(move |connection: IdleConnection| {
                // The loop runs until the last connection has ended.
                let _ = commands.send(AcceptCommand::finish(connection.unmoved(UnmovedReason::NotTaken)));
                Ok(())
            })));
        }
        let mut abort_now = pin!(abort_now);
        let report = self.leave(limit, self.arrivals.wait(), abort_now.as_mut()).await;
        self.end_unless_aborted(report, limit, abort_now).await
    }

    /// As [`end`](Self::end). If the drain is aborted already, `abort_now` is not asked again.
    async fn end_unless_aborted(
        self,
        report: DrainReport,
        limit: Duration,
        abort_now: impl Future<Output = &'static str>,
    ) -> DrainReport {
        match self.drain.is_aborted() {
            true => self.end(report, Duration::ZERO, pending()).await,
            false => self.end(report, limit, abort_now).await,
        }
    }

    /// Ends the loops, which have nothing to do any more: within what is left of `limit`, or when `abort_now` resolves.
    pub(super) async fn end(
        self,
        report: DrainReport,
        limit: Duration,
        abort_now: impl Future<Output = &'static str>,
    ) -> DrainReport {
        self.routes.iter().for_each(|route| route.send(AcceptCommand::End));
        let left = limit.saturating_sub(self.drain.elapsed());
        tokio::select! {
            biased;
            () = self.loops_ended() => return self.report(report),
            () = sleep(left) => {}
            _ = abort_now => {}
        }
        // One waits for the service of a connection that came last.
        self.drain.abort();
        if timeout(ABORT_LIMIT, self.loops_ended()).await.is_err() {
            log::error!("a make-service does not end when it is aborted: it blocks its thread");
        }
        self.report(report)
    }

    fn report(&self, mut report: DrainReport) -> DrainReport {
        report.listeners = self.context.stats.read().into_iter().map(Into::into).collect();
        log::info!(%report, "done");
        self.context.drain.note_done();
        report
    }
}

/// Nothing is accepted; accepts again when dropped.
#[derive(Debug)]
#[must_use = "dropping it accepts again"]
pub(super) struct Paused<'a> {
    routes: &'a Routes,
    for_good: bool,
}

impl Paused<'_> {
    /// Leaves accepting to others until the loops get another command.
    pub(super) fn hold(mut self) {
        self.for_good = true;
    }

    /// Ends the loops: the other owner of the sockets serves what comes from now on.
    pub(super) fn end_loops(mut self) {
        self.for_good = true;
        self.routes.routes.iter().for_each(|route| route.send(AcceptCommand::End));
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if !self.for_good {
            self.routes.routes.iter().for_each(|route| route.send(AcceptCommand::Accept(true, None)));
        }
    }
}

impl RouteHandle {
    fn new(name: Arc<str>, settings: RouteSettings) -> (Self, mpsc::UnboundedReceiver<AcceptCommand>) {
        // Bounded by the connections that are open, and a few commands of each handoff.
        let (commands, receiver) = mpsc::unbounded_channel();
        let sink = Arc::new(RouteSink::new(commands.clone()));
        let (counters, reaper) = (Arc::new(Counters::new(Arc::clone(&name))), Arc::new(Reaper::new(&settings.limits)));
        (Self { name, commands, sink, counters, reaper, settings }, receiver)
    }

    /// What its connections share that come while `drain` is the one that ends them.
    fn context(&self, server: &ServerContext, drain: &Drain) -> RouteContext {
        RouteContext {
            served: Served::new(Arc::clone(&self.name), &server.activated, drain),
            drain: if self.settings.until_done { drain.follower().0.clone() } else { drain.clone() },
            counters: Arc::clone(&self.counters),
            limits: self.settings.limits.clone(),
            reaper: Arc::clone(&self.reaper),
            sink: Arc::clone(&self.sink) as _,
            #[cfg(feature = "tls")]
            encryption: self.settings.encryption.clone(),
        }
    }

    /// Whether it still takes connections.
    pub(super) fn is_open(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Movable connections come back to the route from now on.
    pub(super) fn stop_redirecting(&self) {
        self.sink.redirect_to(None);
    }

    /// Movable connections are kept in `returned` from now on, and nothing is read from them: where they go is not known yet.
    pub(super) fn buffer_into(&self, returned: &Arc<Mutex<Vec<IdleConnection>>>) {
        let returned = Arc::clone(returned);
        let send = move |connection| {
            returned.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(())
        };
        // Wherever they go, this process serves them.
        self.sink.redirect_to(Some(Box::new(AcceptingSink { accepts: TAKEN, send })));
    }

    /// Serves a connection that was accepted earlier.
    pub(super) fn adopt(&self, connection: IdleConnection) {
        self.send(AcceptCommand::adopt(connection));
    }

    /// Serves a connection that was to move and could not, until it can close.
    pub(super) fn finish(&self, connection: IdleConnection) {
        self.send(AcceptCommand::finish(connection));
    }

    fn send(&self, command: AcceptCommand) {
        // A loop that has ended needs no command.
        let _ = self.commands.send(command);
    }
}

/// Lets the route of its name serve a connection that was accepted earlier, if there is one.
pub(super) fn adopt(routes: &[RouteHandle], connection: IdleConnection) {
    if let Some(route) = route_of(routes, &connection) {
        route.adopt(connection);
    }
}

/// As [`adopt`], and the connection closes as soon as it can: it was to move and could not, for that reason.
pub(super) fn finish(routes: &[RouteHandle], connection: IdleConnection, reason: UnmovedReason) {
    if let Some(route) = route_of(routes, &connection) {
        route.finish(connection.unmoved(reason));
    }
}

fn route_of<'a>(routes: &'a [RouteHandle], connection: &IdleConnection) -> Option<&'a RouteHandle> {
    let route = routes.iter().find(|route| route.name == connection.listener);
    if route.is_none() {
        log::warn!(listener = &*connection.listener, "no route serves a connection that has come");
    }
    route
}
