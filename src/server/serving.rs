//! A server that runs: its accept loops, and their end.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    accept::{Accepting, Order, RouteContext},
    exit::Exit,
    limits::Limits,
    reaper::Reaper,
    route::Route,
};
use crate::{
    activation::ActivatedListeners,
    drain::{CutOnDrop, Drain, DrainReport, Figures, Tally},
    extract::ServedThrough,
    listener::ActivatedListener,
};

/// The accept loops, and what they count. Dropping it cuts everything.
#[derive(Debug)]
pub(super) struct Serving {
    drain: Drain,
    loops: TaskTracker,
    figures: Figures,
    _cut: CutOnDrop,
}

/// What all routes have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) activated: ActivatedListeners,
    pub(super) drain: Drain,
    pub(super) figures: Figures,
    pub(super) limits: Limits,
    pub(super) lame_duck: Duration,
}

impl Serving {
    /// Begins to accept.
    pub(super) fn start(common: Common, routes: impl Iterator<Item = (Route, ActivatedListener)>) -> Self {
        let loops = TaskTracker::new();
        let mut tallies = Vec::new();
        for (route, listener) in routes {
            let addrs: Vec<_> = listener.local_addrs().iter().map(ToString::to_string).collect();
            tracing::info!(name = listener.name(), addrs = addrs.join(" "), "serving");
            let tally = Arc::new(Tally::new(listener.shared_name()));
            tallies.push(Arc::clone(&tally));
            let (orders, told) = mpsc::unbounded_channel();
            let context = RouteContext {
                served: ServedThrough::new(listener.shared_name(), &common.activated, &common.drain),
                drain: common.drain.clone(),
                tally,
                limits: common.limits.clone(),
                reaper: Arc::new(Reaper::new(&common.limits)),
                exit: Arc::new(Exit::new(orders.clone())),
            };
            let _ = orders.send(Order::Accept(true));
            loops.spawn(route.accept_loop(Accepting::new(listener, context, common.lame_duck, told)));
        }
        loops.close();
        common.figures.fill(tallies);
        let _cut = common.drain.cut_guard();
        Self { drain: common.drain, loops, figures: common.figures, _cut }
    }

    /// Resolves when no connection can come any more: with `Accept=yes`, when the one is served.
    pub(super) async fn exhausted(&self) {
        self.loops.wait().await;
    }

    /// Stops accepting, and returns when every connection has ended or was cut, after `limit` or when `cut_now` resolves.
    pub(super) async fn drain(self, limit: Duration, cut_now: impl Future<Output = &'static str>) -> DrainReport {
        self.drain.begin();
        let mut report = self.drain.finish_or(limit, self.loops.wait(), cut_now).await;
        report.listeners = self.figures.now().into_iter().map(Into::into).collect();
        tracing::info!(%report, "done");
        report
    }
}
