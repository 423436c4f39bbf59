//! What a drain did.

use std::{fmt, time::Duration};

use super::{
    counts::{MovedByKind, UnmovedByReason},
    stats::ListenerStats,
};

/// What [`Server::run`](crate::Server::run) did until it returned.
///
/// A drain that met its deadline and aborted what was left is no error: it is in the report. It prints as one line, for
/// a log:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), axum_activation::Error> {
/// use axum::Router;
/// use axum_activation::{ActivatedListeners, Server};
///
/// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
/// let stop = async {}; // stops at once
/// let report = Server::new(activated).serve("http", Router::new()).with_graceful_shutdown(stop).await?;
/// assert!(report.to_string().contains("; http: 0 requests, 0 connections finished"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// From the start of the drain to its end.
    pub elapsed: Duration,
    /// How many connections, requests and tasks did not even end when they were aborted. The program ends them.
    pub stuck: usize,
    /// One entry a route, in the order of the routes.
    pub listeners: Vec<ListenerReport>,
}

/// The connections of one route, over the whole life of the server. Each connection that has ended is in one of
/// `finished`, `idle_closed`, `errors`, `aborted` and `moved`.
///
/// ```
/// use axum_activation::DrainReport;
///
/// fn lost(report: &DrainReport) -> u64 {
///     report.listeners.iter().map(|listener| listener.aborted + listener.errors).sum()
/// }
/// # let _ = lost;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerReport {
    /// The name of its sockets.
    pub name: String,
    /// Responses that were sent whole.
    pub requests: u64,
    /// Connections that ended by themselves: the client closed, or an answer said that it is the last.
    pub finished: u64,
    /// Connections that were idle when this process closed them.
    pub idle_closed: u64,
    /// Connections that ended with an error: a reset within a request or a response, a malformed or a stalled request, a handler that
    /// panicked. A reset of an idle connection, as a TCP check of a load balancer does it, is none.
    pub errors: u64,
    /// Connections that were aborted at the deadline.
    pub aborted: u64,
    /// Connections that a successor has now, or the fd store for it.
    pub moved: u64,
    /// The same by kind.
    pub moved_by_kind: MovedByKind,
    /// Connections that ended in this process while others moved, or that came and were not resumed. They
    /// are also in `finished`, `idle_closed`, `errors` or `aborted`.
    pub unmoved: u64,
    /// The same by reason.
    pub unmoved_by_reason: UnmovedByReason,
}

impl DrainReport {
    /// Whether nothing was aborted.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use axum_activation::Drain;
    ///
    /// let drain = Drain::new();
    /// drain.tasks().spawn(std::future::pending::<()>());
    /// let report = drain.finish(Duration::from_secs(1)).await;
    /// assert!(!report.is_clean(), "a task did not end");
    /// # }
    /// ```
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.stuck == 0 && self.listeners.iter().all(|listener| listener.aborted == 0)
    }
}

impl From<ListenerStats> for ListenerReport {
    fn from(stats: ListenerStats) -> Self {
        Self {
            name: stats.name,
            requests: stats.requests,
            finished: stats.finished,
            idle_closed: stats.idle_closed,
            errors: stats.errors,
            aborted: stats.aborted,
            moved: stats.moved,
            moved_by_kind: stats.moved_by_kind,
            unmoved: stats.unmoved,
            unmoved_by_reason: stats.unmoved_by_reason,
        }
    }
}

/// `drained in 1.2s; http: 5120 requests, 341 connections finished, 60 closed idle, 0 errors, 0 aborted`.
impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drained in {:.1?}", self.elapsed)?;
        self.listeners.iter().try_for_each(|listener| write!(f, "; {listener}"))?;
        match self.stuck {
            0 => Ok(()),
            stuck => write!(f, "; {stuck} stuck"),
        }
    }
}

/// `http: 5120 requests, 341 connections finished, 60 closed idle, 0 errors, 0 aborted`, and after a handoff also
/// `, 50 moved (42 http1, 8 http2), 3 not moved (3 open_streams)`.
impl fmt::Display for ListenerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, requests, finished, idle_closed, errors, aborted, moved, moved_by_kind, .. } = self;
        write!(
            f,
            "{name}: {requests} requests, {finished} connections finished, {idle_closed} closed idle, \
             {errors} errors, {aborted} aborted"
        )?;
        if *moved > 0 {
            write!(f, ", {moved} moved ({moved_by_kind})")?;
        }
        match self.unmoved {
            0 => Ok(()),
            unmoved => write!(f, ", {unmoved} not moved ({})", self.unmoved_by_reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::{CloseReason, ConnectionKind, Counters, UnmovedReason};

    #[test]
    fn a_report_says_what_moved_and_why_the_rest_did_not() {
        let counters = Counters::new("http".into());
        let report = |counters: &Counters| DrainReport {
            elapsed: Duration::from_millis(1200),
            stuck: 1,
            listeners: vec![counters.stats().into()],
        };
        let before = "http: 0 requests, 0 connections finished, 0 closed idle, 0 errors, 0 aborted";
        assert_eq!(report(&counters).to_string(), format!("drained in 1.2s; {before}; 1 stuck"));

        for kind in [ConnectionKind::Http1, ConnectionKind::Http1, ConnectionKind::Stream] {
            counters.ended(CloseReason::Moved(kind));
        }
        counters.unmoved(UnmovedReason::NotTaken);
        let expected =
            format!("drained in 1.2s; {before}, 3 moved (2 http1, 1 stream), 1 not moved (1 not_taken); 1 stuck");
        assert_eq!(report(&counters).to_string(), expected);
    }
}
