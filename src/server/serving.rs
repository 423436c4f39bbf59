//! A server that runs: its accept loops, and their end.

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
    accept::{Accepting, Arrived, Order, RouteContext, Tokens},
    connection::state::State,
    exit::Exit,
    limits::Limits,
    reaper::Reaper,
    route::Route,
};
use crate::{
    activation::ActivatedListeners,
    drain::{AbortOnDrop, Counters, Drain, DrainReport, Stats},
    extract::ServedThrough,
    fdstore::Store,
    listener::ActivatedListener,
    log,
    transit::IdleConnection,
    wire::{moved::MovedListener, send::MoverHandle},
};

/// How long a loop may take to end that was aborted.
const ABORT_LIMIT: Duration = Duration::from_millis(200);

/// The accept loops, and what they count. Dropping it aborts everything.
#[derive(Debug)]
pub(super) struct Serving {
    common: Common,
    /// The drain that ends it: another than that of `common` once that has started and the successor has died.
    drain: Drain,
    loops: TaskTracker,
    /// Those loops that still accept.
    accepting: TaskTracker,
    /// What still brings connections that were started elsewhere.
    arrivals: TaskTracker,
    routes: Vec<Running>,
    _cut: AbortOnDrop,
}

/// What all routes have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) activated: ActivatedListeners,
    pub(super) drain: Drain,
    pub(super) stats: Stats,
    pub(super) limits: Limits,
}

/// One accept loop, from outside.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) name: Arc<str>,
    orders: UnboundedSender<Order>,
    exit: Arc<Exit>,
    counters: Arc<Counters>,
    reaper: Arc<Reaper<Arc<State>>>,
}

impl Serving {
    /// Begins to accept.
    pub(super) fn start(common: Common, routes: impl Iterator<Item = (Route, ActivatedListener)>) -> Self {
        let (loops, accepting, arrivals) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let mut running = Vec::new();
        for (route, listener) in routes {
            let addrs: Vec<_> = listener.local_addrs().iter().map(ToString::to_string).collect();
            log::info!(name = listener.name(), addrs = addrs.join(" "), "serving");
            let (started, orders) = Running::new(listener.shared_name(), &common.limits);
            let context = started.context(&common, &common.drain);
            let tokens = Tokens { accepting: accepting.token(), arrivals: arrivals.clone() };
            loops.spawn(route.accept_loop(Accepting::new(listener, context, orders, tokens)));
            started.tell(Order::Accept(true, None));
            running.push(started);
        }
        loops.close();
        accepting.close();
        arrivals.close();
        common.stats.fill(running.iter().map(|route| Arc::clone(&route.counters)).collect());
        let (_cut, drain) = (common.drain.abort_guard(), common.drain.clone());
        Self { common, drain, loops, accepting, arrivals, routes: running, _cut }
    }

    /// Resolves when no connection can come any more: with `Accept=yes`, when the one is served.
    pub(super) async fn exhausted(&self) {
        self.loops.wait().await;
    }

    /// The accept loops, for whoever has a connection for them.
    pub(super) fn routes(&self) -> &[Running] {
        &self.routes
    }

    /// The drain that ends it.
    pub(super) fn current_drain(&self) -> &Drain {
        &self.drain
    }

    pub(super) fn activated(&self) -> &ActivatedListeners {
        &self.common.activated
    }

    /// Leaves accepting to others for as long as the answer is kept. An error is the name of a route where what was accepted has no
    /// service within `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, this process accepts again.
    pub(super) async fn pause(&self, limit: Duration) -> Result<Paused<'_>, Arc<str>> {
        let (paused, until) = (Paused { serving: self, for_good: false }, Instant::now() + limit);
        let tell = |route: &Running| {
            let (done, is_done) = oneshot::channel();
            route.tell(Order::Accept(false, Some(done)));
            (Arc::clone(&route.name), is_done)
        };
        for (name, is_done) in self.routes.iter().map(tell).collect::<Vec<_>>() {
            // A loop that has ended does not accept either.
            drop(timeout_at(until, is_done).await.map_err(|_| name)?);
        }
        Ok(paused)
    }

    /// Those that still bring connections that were started elsewhere; the drain waits for them.
    pub(super) fn arrivals(&self) -> &TaskTracker {
        &self.arrivals
    }

    /// Accepts what waits at these listeners, which the successor has not, and closes them.
    /// Resolves when that is done: the drain waits for what waited there.
    pub(super) async fn close_moved(&self, moved: &[MovedListener]) {
        if moved.is_empty() {
            return;
        }
        self.common.activated.leave_moved(moved);
        let tell = |route: &Running| {
            let (done, is_done) = oneshot::channel();
            route.tell(Order::CloseOwn(done));
            is_done
        };
        for is_done in self.routes.iter().map(tell).collect::<Vec<_>>() {
            let _ = is_done.await;
        }
    }

    /// Connections that can move go there from now on.
    pub(super) fn lead_to(&self, mover: Option<&MoverHandle>) {
        for route in &self.routes {
            route.exit.lead_to(mover.map(|mover| {
                let mover = mover.clone();
                Box::new(move |connection| mover.send(connection)) as _
            }));
        }
    }

    /// Accepts again after the drain has started, with a drain of its own for what comes from now on; `returned` came back.
    pub(super) fn renew(&mut self, returned: Vec<IdleConnection>) {
        self.drain = self.drain.renewed();
        for route in &self.routes {
            route.tell(Order::Renew(Arc::new(route.context(&self.common, &self.drain))));
        }
        self.lead_to(None);
        returned.into_iter().for_each(|connection| adopt(&self.routes, connection, Arrived::again));
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
            let keep = move |connection| store.keep(connection).inspect_err(|_| drain.stop_moving());
            route.exit.lead_to(Some(Box::new(keep)));
        }
        self.drain.begin_pause();
        let mut abort_now = pin!(abort_now);
        let report = {
            let mut ended = pin!(self.drain.finish_or(limit, self.accepting.wait(), abort_now.as_mut()));
            // What the manager forgets of the process before must not be what it is to keep of this one.
            let keep = async {
                tokio::select! {
                    () = self.arrivals.wait() => {}
                    () = self.drain.aborted() => {}
                }
                store.run(self.drain.aborted(), |connection| adopt(&self.routes, connection, Arrived::to_stay)).await
            };
            tokio::select! {
                report = &mut ended => report,
                returned = keep => {
                    self.drain.stop_moving();
                    returned.into_iter().for_each(|connection| adopt(&self.routes, connection, Arrived::to_stay));
                    ended.await
                }
            }
        };
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
            route.tell(Order::Accept(false, None));
            let orders = route.orders.clone();
            route.exit.lead_to(Some(Box::new(move |connection| {
                // The loop runs until the last connection has ended.
                let _ = orders.send(Order::Adopt(Arrived::to_stay(connection)));
                Ok(())
            })));
        }
        let mut abort_now = pin!(abort_now);
        let report = self.leave(limit, self.arrivals.wait(), abort_now.as_mut()).await;
        self.end_unless_aborted(report, limit, abort_now).await
    }

    /// As [`end`](Self::end); what has aborted the drain is not asked again.
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
        self.routes.iter().for_each(|route| route.tell(Order::End));
        let left = limit.saturating_sub(self.drain.elapsed());
        tokio::select! {
            biased;
            () = self.loops.wait() => return self.report(report),
            () = sleep(left) => {}
            _ = abort_now => {}
        }
        // One waits for the service of a connection that came last.
        self.drain.abort();
        if timeout(ABORT_LIMIT, self.loops.wait()).await.is_err() {
            log::error!("a make-service does not end when it is aborted: it blocks its thread");
        }
        self.report(report)
    }

    fn report(&self, mut report: DrainReport) -> DrainReport {
        report.listeners = self.common.stats.read().into_iter().map(Into::into).collect();
        log::info!(%report, "done");
        self.common.drain.note_done();
        report
    }
}

/// Nothing is accepted; accepts again when dropped.
#[derive(Debug)]
#[must_use = "dropping it accepts again"]
pub(super) struct Paused<'a> {
    serving: &'a Serving,
    for_good: bool,
}

impl Paused<'_> {
    /// Leaves accepting to others until the loops are told otherwise.
    pub(super) fn hold(mut self) {
        self.for_good = true;
    }

    /// Ends the loops: whoever holds the sockets, too, serves what comes from now on.
    pub(super) fn keep(mut self) {
        self.for_good = true;
        self.serving.routes.iter().for_each(|route| route.tell(Order::End));
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if !self.for_good {
            self.serving.routes.iter().for_each(|route| route.tell(Order::Accept(true, None)));
        }
    }
}

impl Running {
    fn new(name: Arc<str>, limits: &Limits) -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (orders, told) = mpsc::unbounded_channel();
        let exit = Arc::new(Exit::new(orders.clone()));
        let counters = Arc::new(Counters::new(Arc::clone(&name)));
        (Self { name, orders, exit, counters, reaper: Arc::new(Reaper::new(limits)) }, told)
    }

    /// What its connections share that come while `drain` is the one that ends them.
    fn context(&self, common: &Common, drain: &Drain) -> RouteContext {
        RouteContext {
            served: ServedThrough::new(Arc::clone(&self.name), &common.activated, drain),
            drain: drain.clone(),
            counters: Arc::clone(&self.counters),
            limits: common.limits.clone(),
            reaper: Arc::clone(&self.reaper),
            exit: Arc::clone(&self.exit),
        }
    }

    /// Whether it takes connections that were started elsewhere.
    pub(super) fn is_open(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Connections that can move come back to the route from now on.
    pub(super) fn keep(&self) {
        self.exit.lead_to(None);
    }

    /// Connections that can move are kept in `returned` from now on, unread: where they go is not known yet.
    pub(super) fn hold_in(&self, returned: &Arc<Mutex<Vec<IdleConnection>>>) {
        let returned = Arc::clone(returned);
        self.exit.lead_to(Some(Box::new(move |connection| {
            returned.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(())
        })));
    }

    /// Serves a connection that was started elsewhere.
    pub(super) fn adopt(&self, arrived: Arrived) {
        self.tell(Order::Adopt(arrived));
    }

    fn tell(&self, order: Order) {
        // A loop that has ended needs no order.
        let _ = self.orders.send(order);
    }
}

/// Gives a connection to the route of its name, if there is one.
pub(super) fn adopt(routes: &[Running], connection: IdleConnection, how: fn(IdleConnection) -> Arrived) {
    match routes.iter().find(|route| route.name == connection.listener) {
        Some(route) => route.adopt(how(connection)),
        None => log::warn!(listener = &*connection.listener, "nothing here serves a connection that has come"),
    }
}
