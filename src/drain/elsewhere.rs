//! The drain of a server that is not ours: plain `axum::serve`, tonic, anything that ends when a future resolves.

use std::{
    future::{Future, IntoFuture, pending},
    pin::pin,
    time::Duration,
};

use tokio::time::sleep;

use super::{Drain, DrainReport};

impl Drain {
    /// Resolves `time` after the drain has begun, and at once when what is left is cut.
    ///
    /// For the graceful shutdown of hyper, which closes idle connections at once, whatever is on its way to them. That late, each of
    /// them had `time` to send one more request, which [`DrainLayer`](crate::layer::DrainLayer) answered with `Connection: close`.
    pub fn begun_for(&self, time: Duration) -> impl Future<Output = ()> + Send + 'static + use<> {
        let drain = self.clone();
        async move {
            drain.begun().await;
            let left = time.saturating_sub(drain.elapsed());
            // Even a sleep of no time waits for the next tick.
            if !left.is_zero() {
                tokio::select! {
                    () = sleep(left) => {}
                    () = drain.cut_short() => {}
                }
            }
        }
    }

    /// Drives a server that is not ours until it has ended, together with the requests and tasks of this drain; begins the drain if
    /// the server ends by itself. `limit` after the drain began what is left is cut: whoever looks at [`cut_token`](Self::cut_token)
    /// may end by itself still, then the server is dropped, and what it would return is `None`.
    ///
    /// ```no_run
    /// # async fn serve(activated: axum_activation::ActivatedListeners, app: axum::Router) -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use axum_activation::{Drain, layer::DrainLayer};
    ///
    /// let drain = Drain::new();
    /// let listener = activated.one("http")?.stop_with(&drain);
    /// let serving = axum::serve(listener, app.layer(DrainLayer::new(&drain)))
    ///     .with_graceful_shutdown(drain.begun_for(Duration::from_secs(1)));
    /// let (served, report) = drain.drive(serving, Duration::from_secs(30)).await;
    /// println!("{report}");
    /// served.unwrap_or(Ok(()))
    /// # }
    /// ```
    ///
    /// Weaker than under [`Server`](crate::Server):
    ///
    /// - An idle connection is closed when [`begun_for`](Self::begun_for) resolves, without a look at what is on its way: the request
    ///   of a client that sends one just then is lost. So is a head that has come in part, and what a client has sent on a fresh
    ///   connection that was not read yet.
    /// - Until then HTTP/2 connections are told nothing, and a connection that stays idle is kept.
    /// - Nothing is cut but the server's accept loop: `axum::serve` has spawned its connections, and they go on until the program ends.
    ///   The report has no listeners; `stuck` counts the requests and tasks that were left.
    /// - A connection that was upgraded (a WebSocket) is not known. Its handler holds a token of [`tasks`](Self::tasks) to be waited for.
    /// - There are no limits, no figures, and no signals.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the server.
    pub async fn drive<F: IntoFuture>(&self, serving: F, limit: Duration) -> (Option<F::Output>, DrainReport) {
        let mut serving = pin!(serving.into_future());
        let mut served = None;
        tokio::select! {
            output = &mut serving => served = Some(output),
            () = self.begun() => {}
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

    use super::{super::ending::CUT_LIMIT, *};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_time_counts_from_the_beginning_of_the_drain() {
        let drain = Drain::new();
        drain.begin();
        sleep(SECOND).await;
        let now = Instant::now();
        drain.begun_for(3 * SECOND).await;
        assert_eq!(now.elapsed(), 2 * SECOND);
        drain.begun_for(SECOND).await;
        assert_eq!(now.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_ends_the_wait() {
        let drain = Drain::new();
        let waiting = tokio::spawn(drain.begun_for(SECOND));
        let now = Instant::now();
        drain.cut();
        waiting.await.unwrap();
        assert_eq!(now.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_ends_by_itself_begins_the_drain_and_tasks_are_waited_for() {
        let drain = Drain::new();
        let told = drain.begun_for(SECOND);
        drain.tasks().spawn(told);
        let (served, report) = drain.drive(ready(7), 3 * SECOND).await;
        assert_eq!((served, report.elapsed, report.stuck), (Some(7), SECOND, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_has_until_the_deadline_and_not_longer() {
        for (time, expected) in [(2 * SECOND, Some(())), (4 * SECOND, None)] {
            let drain = Drain::new();
            let begin = async { drain.begin() };
            let serving = async {
                drain.begun().await;
                sleep(time).await;
            };
            let ((served, report), ()) = tokio::join!(drain.drive(serving, 3 * SECOND), begin);
            assert_eq!(served, expected);
            assert_eq!(report.elapsed, expected.map_or(3 * SECOND + CUT_LIMIT, |()| time));
        }
    }
}
