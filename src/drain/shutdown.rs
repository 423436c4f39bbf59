//! Waiting for the end, and making one.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::{sleep, timeout};

use super::{Drain, DrainReport, Phase};
use crate::log;

/// How long what was aborted may take to be gone; only a handler that blocks its thread takes longer.
pub(super) const ABORT_LIMIT: Duration = Duration::from_millis(200);

impl Drain {
    /// Begins, and waits until the tasks and the requests that [`DrainLayer`](crate::layer::DrainLayer) counts are done, or aborts
    /// what is left after `limit`.
    ///
    /// A response is done when its server has taken the last of it, not when it is sent: to end a program, use
    /// [`drive`](Self::run_server), which waits for the server as well. [`Server`](crate::Server) does all of it by itself.
    pub async fn finish(&self, limit: Duration) -> DrainReport {
        self.finish_or(limit, std::future::ready(()), std::future::pending()).await
    }

    /// As [`finish`](Self::finish), first waiting for `accepting` to end, and aborting also when `abort_now` resolves.
    pub(crate) async fn finish_or(
        &self,
        limit: Duration,
        accepting: impl Future<Output = ()>,
        abort_now: impl Future<Output = &'static str>,
    ) -> DrainReport {
        self.start();
        let left = limit.saturating_sub(self.elapsed());
        let mut empty = pin!(async {
            accepting.await;
            self.empty().await;
        });
        tokio::select! {
            () = &mut empty => {}
            () = self.aborted() => self.close("aborted from outside", empty).await,
            () = sleep(left) => self.close("the deadline is over", empty).await,
            reason = abort_now => self.close(reason, empty).await,
        }
        self.advance(Phase::Done);
        DrainReport { elapsed: self.elapsed(), stuck: self.left(), listeners: Vec::new() }
    }

    /// Nothing is left, by whichever drain it ended.
    pub(crate) fn note_done(&self) {
        self.advance(Phase::Done);
    }

    /// Aborts when dropped.
    pub(crate) fn abort_guard(&self) -> AbortOnDrop {
        AbortOnDrop(self.clone())
    }

    async fn empty(&self) {
        // Tasks last: what is still being answered may spawn some.
        for tracker in [&self.shared.connections, &self.shared.requests, &self.shared.tasks] {
            tracker.close();
            tracker.wait().await;
        }
    }

    async fn close(&self, reason: &str, empty: impl Future<Output = ()>) {
        match self.left() {
            0 => log::info!(reason, "nothing is left to abort"),
            left => log::warn!(reason, left, "aborting what is left"),
        }
        self.abort();
        if timeout(ABORT_LIMIT, empty).await.is_err() && self.left() > 0 {
            log::error!(left = self.left(), "some tasks do not end when aborted: they block their thread or ignore it");
        }
    }
}

/// Aborts a drain when dropped.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(Drain);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if self.0.phase() != Phase::Done {
            self.0.abort();
        }
    }
}
