//! A server that runs: its accept loops, and their end.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::{accept::Accepting, route::Route};
use crate::{
    activation::ActivatedListeners,
    drain::{CutOnDrop, Drain, DrainReport, Tally},
    extract::ServedThrough,
    listener::ActivatedListener,
};

/// How long connections that were cut may take to be gone; only a handler that blocks its thread takes longer.
const CUT_LIMIT: Duration = Duration::from_millis(200);

/// The accept loops, and what they count. Dropping it cuts everything.
#[derive(Debug)]
pub(super) struct Serving {
    drain: Drain,
    loops: TaskTracker,
    tallies: Vec<(Arc<str>, Arc<Tally>)>,
    _cut: CutOnDrop,
}

impl Serving {
    /// Begins to accept.
    pub(super) fn start(
        activated: &ActivatedListeners,
        routes: impl Iterator<Item = (Route, ActivatedListener)>,
    ) -> Self {
        let drain = Drain::new();
        let loops = TaskTracker::new();
        let mut tallies = Vec::new();
        for (route, listener) in routes {
            tracing::info!(name = listener.name(), addrs = ?listener.local_addrs(), "serving");
            let name = listener.shared_name();
            let tally = Arc::new(Tally::default());
            tallies.push((Arc::clone(&name), Arc::clone(&tally)));
            let through = ServedThrough::new(name, activated);
            loops.spawn(route.accept_loop(Accepting { listener, through, drain: drain.clone(), tally }));
        }
        loops.close();
        let _cut = drain.cut_guard();
        Self { drain, loops, tallies, _cut }
    }

    /// Resolves when no connection can come any more: with `Accept=yes`, when the one is served.
    pub(super) async fn exhausted(&self) {
        self.loops.wait().await;
    }

    /// Stops accepting, and returns when every connection has ended or was cut, after `limit` or when `cut_now` resolves.
    pub(super) async fn drain(self, limit: Duration, cut_now: impl Future<Output = &'static str>) -> DrainReport {
        let began = Instant::now();
        self.drain.begin();
        self.loops.wait().await;
        let connections = self.drain.connections();
        connections.close();
        tokio::select! {
            () = connections.wait() => {}
            () = sleep(limit) => self.cut("drain_timeout is over").await,
            signal = cut_now => self.cut(signal).await,
        }
        let listeners = self.tallies.iter().map(|(name, tally)| tally.report(name)).collect();
        let report = DrainReport { elapsed: began.elapsed(), listeners };
        tracing::info!(%report, "done");
        report
    }

    async fn cut(&self, reason: &str) {
        let connections = self.drain.connections();
        tracing::warn!(reason, connections = connections.len(), "cutting what is left");
        self.drain.cut();
        if timeout(CUT_LIMIT, connections.wait()).await.is_err() {
            tracing::error!(
                connections = connections.len(),
                "connections are stuck in handlers that block their thread"
            );
        }
    }
}
