//! The drain of a server that is not this crate's: plain `axum::serve`, tonic, every server that ends when a future
//! resolves.

use std::{
    future::{Future, IntoFuture, pending},
    pin::pin,
    time::Duration,
};

use tokio::time::sleep;

use super::{Drain, DrainReport};

impl Drain {
    /// Resolves `time` after the drain has started, and at once when what is left is aborted.
    ///
    /// It is for the graceful shutdown of hyper, which closes idle connections at once, whatever is on its way to them.
    /// That late, each of them had `time` to send one more request, which [`DrainLayer`](crate::layer::DrainLayer)
    /// answered with `Connection: close`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// let shutdown = drain.started_after(Duration::from_secs(1));
    /// drain.start();
    /// let before = tokio::time::Instant::now();
    /// shutdown.await;
    /// assert_eq!(before.elapsed(), Duration::from_secs(1));
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// It only waits. The time counts from the start of the drain, so it can be asked for again.
    pub fn started_after(&self, time: Duration) -> impl Future<Output = ()> + Send + 'static + use<> {
        let drain = self.clone();
        async move {
            drain.started().await;
            let left = time.saturating_sub(drain.elapsed());
            // Even a sleep of no time waits for the next tick.
            if !left.is_zero() {
                tokio::select! {
                    () = sleep(left) => {}
                    () = drain.aborted() => {}
                }
            }
        }
    }

    /// Runs another server until it has ended, together with the requests and tasks of this drain.
    ///
    /// - If the server ends by itself, the drain starts.
    /// - `limit` after the start of the drain, what is left is aborted. Tasks that see
    ///   [`abort_token`](Self::abort_token) have 200 ms to end. Then the server is dropped, and `None` is returned in
    ///   place of its output.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use axum::Router;
    /// use axum_activation::{ActivatedListeners, Drain, layer::DrainLayer};
    ///
    /// let drain = Drain::new();
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let listener = activated.one("http")?.stop_on(&drain);
    /// let serving = axum::serve(listener, Router::new().layer(DrainLayer::new(&drain)))
    ///     .with_graceful_shutdown(drain.started_after(Duration::from_millis(10)));
    /// # drain.start();
    /// let (served, report) = drain.run_server(serving, Duration::from_secs(30)).await;
    /// println!("{report}");
    /// served.unwrap_or(Ok(()))
    /// # }
    /// ```
    ///
    /// It is weaker than [`Server`](crate::Server):
    ///
    /// - An idle connection is closed when [`started_after`](Self::started_after) resolves, without a look at what is
    ///   on its way: the request of a client that sends one just then is lost. So are request headers that have come in
    ///   part, and what a client has sent on a fresh connection that was not read yet.
    /// - Until then HTTP/2 connections get no GOAWAY, and a connection that stays idle is kept.
    /// - Only the server's accept loop is aborted: `axum::serve` has spawned its connections, and they go on until the
    ///   program ends. The report has no listeners; `stuck` counts the requests and tasks that were left.
    /// - A connection that was upgraded (a WebSocket) is not known. Its handler holds a token of [`tasks`](Self::tasks)
    ///   to be waited for.
    /// - There are no limits, no statistics, and no signals.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the server. The drain stays as it is.
    pub async fn run_server<F: IntoFuture>(&self, serving: F, limit: Duration) -> (Option<F::Output>, DrainReport) {
        let mut serving = pin!(serving.into_future());
        let mut served = None;
        tokio::select! {
            output = &mut serving => served = Some(output),
            () = self.started() => {}
        }
        let accepting = async {
            if served.is_none() {
                served = Some(serving.await);
            }
        };
        let report = self.finish_or(limit, accepting, pending()).await;
        (served, report)
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::time::Instant;

    use super::{super::shutdown::ABORT_LIMIT, *};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_time_counts_from_the_beginning_of_the_drain() {
        let drain = Drain::new();
        drain.start();
        sleep(SECOND).await;
        let now = Instant::now();
        drain.started_after(3 * SECOND).await;
        assert_eq!(now.elapsed(), 2 * SECOND);
        drain.started_after(SECOND).await;
        assert_eq!(now.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abort_ends_the_wait() {
        let drain = Drain::new();
        let waiting = tokio::spawn(drain.started_after(SECOND));
        let now = Instant::now();
        drain.abort();
        waiting.await.unwrap();
        assert_eq!(now.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_ends_by_itself_begins_the_drain_and_tasks_are_waited_for() {
        let drain = Drain::new();
        let after = drain.started_after(SECOND);
        drain.tasks().spawn(after);
        let (served, report) = drain.run_server(ready(7), 3 * SECOND).await;
        assert_eq!((served, report.elapsed, report.stuck), (Some(7), SECOND, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_has_until_the_deadline_and_not_longer() {
        for (time, expected) in [(2 * SECOND, Some(())), (4 * SECOND, None)] {
            let drain = Drain::new();
            let begin = async { drain.start() };
            let serving = async {
                drain.started().await;
                sleep(time).await;
            };
            let ((served, report), ()) = tokio::join!(drain.run_server(serving, 3 * SECOND), begin);
            assert_eq!(served, expected);
            assert_eq!(report.elapsed, expected.map_or(3 * SECOND + ABORT_LIMIT, |()| time));
        }
    }
}
