//! Waiting until nothing is left, and aborting what is left at the deadline.
//!
//! The order is: connections, requests, tasks. A response may spawn a task, and a task opens no connection, so that
//! after the last wait nothing can come up any more.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::{sleep, timeout};

use super::{Drain, DrainReport, Phase};
use crate::log;

/// How long what was aborted may take to be gone. Only a handler that blocks its thread takes longer.
pub(super) const ABORT_LIMIT: Duration = Duration::from_millis(200);

impl Drain {
    /// Starts the drain, and waits until the tasks and the requests that [`DrainLayer`](crate::layer::DrainLayer)
    /// counts are done. What is left after `limit` is aborted.
    ///
    /// A response is done when its server has taken the last of it, not when it is sent. To end a program, use
    /// [`run_server`](Self::run_server), which waits for the server as well. [`Server`](crate::Server) does all of it
    /// by itself.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// drain.tasks().spawn(tokio::time::sleep(Duration::from_secs(2)));
    /// let report = drain.finish(Duration::from_secs(30)).await;
    /// assert_eq!((report.elapsed, report.stuck), (Duration::from_secs(2), 0));
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped, the drain goes on, and nothing is aborted at the deadline. It can be called again: `limit` counts from
    /// the start of the drain.
    pub async fn finish(&self, limit: Duration) -> DrainReport {
        self.finish_or(limit, std::future::ready(()), std::future::pending()).await
    }

    /// As [`finish`](Self::finish). It first waits for `accepting` to end, and aborts also when `abort_now` resolves.
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
            self.end_follower().await;
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

    /// Nothing is left. A drain that a [renewed](Self::renewed) one has ended is done as well.
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

    /// Drains what went on until nothing else was left. With a successor it ends as everything else does: its accept loops are ended with
    /// all others.
    async fn end_follower(&self) {
        let Some(follower) = self.shared.follower.get() else { return };
        follower.drain.start();
        if !self.has_successor() {
            follower.loops.wait().await;
        }
        follower.drain.empty().await;
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

/// Aborts a drain when dropped, unless it is done.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(Drain);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if self.0.phase() != Phase::Done {
            self.0.abort();
        }
    }
}
