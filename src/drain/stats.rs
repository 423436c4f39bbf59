//! Live statistics per listener, counted without contention.
//!
//! Each thread counts in a shard of its own ([`shard`]), and a reader adds the shards up. So a request costs a few
//! plain stores, and a reader costs 33 loads for each count.

use std::{
    array, fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use super::{
    counts::{FailedHandshakes, MovedByKind, UnmovedByReason},
    handshakes::HandshakeFailure,
    kind::ConnectionKind,
    shard::{self, SHARDS},
    unmoved::UnmovedReason,
};

/// Live statistics of a server: a handle that is cheap to clone and to keep.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), axum_activation::Error> {
/// use axum::{Json, Router, routing::get};
/// use axum_activation::{ActivatedListeners, Server};
///
/// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
/// let server = Server::new(activated);
/// let stats = server.stats();
/// let open = move || {
///     let stats = stats.clone();
///     async move { stats.read().iter().map(|listener| listener.open).sum::<u64>().to_string() }
/// };
/// let server = server.serve("http", Router::new().route("/open", get(open)));
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stats {
    counters: Arc<OnceLock<Vec<Arc<Counters>>>>,
}

impl Stats {
    /// The statistics now, one entry a route. It is empty before the server runs.
    ///
    /// Counts of different kinds are read one after the other, so they may be apart by what happened in between. No
    /// difference falls below zero by that.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum::Router;
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let server = Server::new(activated).serve("http", Router::new());
    /// let stats = server.stats();
    /// assert!(stats.read().is_empty());
    ///
    /// server.with_graceful_shutdown(async {}).await?;
    /// assert_eq!((stats.read()[0].name.as_str(), stats.read()[0].open), ("http", 0));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn read(&self) -> Vec<ListenerStats> {
        self.counters.get().into_iter().flatten().map(|counters| counters.stats()).collect()
    }

    /// What has moved, and what has not, over all listeners.
    pub(crate) fn moved(&self) -> (MovedByKind, UnmovedByReason) {
        let stats = self.read();
        (
            stats.iter().map(|listener| listener.moved_by_kind).sum(),
            stats.iter().map(|listener| listener.unmoved_by_reason).sum(),
        )
    }

    pub(crate) fn fill(&self, counters: Vec<Arc<Counters>>) {
        let _ = self.counters.set(counters);
    }
}

/// The statistics of one listener at one moment.
///
/// `open` is `accepted` less all that ended: `finished`, `idle_closed`, `errors`, `aborted` and `moved`.
///
/// ```
/// use axum_activation::drain::ListenerStats;
///
/// fn line(stats: &ListenerStats) -> String {
///     format!("{}: {} open, {} in flight", stats.name, stats.open, stats.in_flight)
/// }
/// # let _ = line;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// The name of its sockets.
    pub name: String,
    /// Connections accepted so far, or taken over from a predecessor.
    pub accepted: u64,
    /// Those of them that a predecessor had accepted, or that were in the fd store.
    pub taken_over: u64,
    /// The same by kind.
    pub taken_over_by_kind: MovedByKind,
    /// Connections open now.
    pub open: u64,
    /// Responses that were sent to the end so far.
    pub requests: u64,
    /// Requests that are being answered now.
    pub in_flight: u64,
    /// Connections on which nothing is being answered now (HTTP/2 counts each stream as one that is busy).
    pub idle: u64,
    /// Connections that ended by themselves.
    pub finished: u64,
    /// Connections that were closed idle.
    pub idle_closed: u64,
    /// Connections that ended with an error.
    pub errors: u64,
    /// Connections that were aborted.
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
    /// TLS handshakes.
    pub handshakes: HandshakeStats,
    /// When the TLS certificate expires, the first one of several; `None` without TLS, or where the program has made its configuration.
    pub certificate_expires: Option<SystemTime>,
}

/// The TLS handshakes of one listener. All are 0 where TLS is not spoken.
///
/// ```
/// use axum_activation::drain::ListenerStats;
///
/// fn share_of_resumed(stats: &ListenerStats) -> u64 {
///     100 * stats.handshakes.resumed / stats.handshakes.done.max(1)
/// }
/// # let _ = share_of_resumed;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeStats {
    /// Handshakes that were done.
    pub done: u64,
    /// Those of them that were short, as the client came back with a session.
    pub resumed: u64,
    /// Handshakes that failed, by reason. Their connections are in `errors`, in `finished` if the client has closed, or in `aborted`.
    pub failed: FailedHandshakes,
    /// Handshakes that are being done now.
    pub in_flight: u64,
}

/// Why a connection is no longer open in this process, by the count that it adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client closed, or the last response said that it was the last.
    Finished,
    /// This process closed it while no request was on it.
    IdleClosed,
    /// A reset within a request or a response, a malformed or a stalled request, a handler that panicked.
    Error,
    /// It was dropped at the drain's deadline.
    Aborted,
    /// A successor has it now, or systemd for the next process.
    Moved(ConnectionKind),
}

/// Counts for one listener.
///
/// A count is written with `Release` and read with `Acquire`: [`stats`](Self::stats) reads ends before beginnings, and a reader
/// that sees that a connection has ended must see that it was accepted, on whichever thread that was.
#[derive(Debug)]
pub(crate) struct Counters {
    name: Arc<str>,
    certificate: CertificateInUse,
    shards: [Shard; SHARDS],
}

/// Who knows when the certificate in use expires; nothing does without TLS.
#[derive(Default)]
struct CertificateInUse(OnceLock<Box<dyn Fn() -> Option<SystemTime> + Send + Sync>>);

impl CertificateInUse {
    fn expires(&self) -> Option<SystemTime> {
        self.0.get()?()
    }
}

impl fmt::Debug for CertificateInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CertificateInUse").field(&self.expires()).finish()
    }
}

/// What one thread has counted; aligned so that threads do not share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    accepted: AtomicU64,
    taken_over: [AtomicU64; ConnectionKind::ALL.len()],
    started: AtomicU64,
    answered: AtomicU64,
    abandoned: AtomicU64,
    finished: AtomicU64,
    idle_closed: AtomicU64,
    errors: AtomicU64,
    aborted: AtomicU64,
    moved: [AtomicU64; ConnectionKind::ALL.len()],
    unmoved: [AtomicU64; UnmovedReason::ALL.len()],
    handshakes: Handshakes,
}

#[derive(Debug, Default)]
struct Handshakes {
    started: AtomicU64,
    done: AtomicU64,
    resumed: AtomicU64,
    failed: [AtomicU64; HandshakeFailure::ALL.len()],
}

impl Counters {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self { name, certificate: CertificateInUse::default(), shards: array::from_fn(|_| Shard::default()) }
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(crate) fn accepted(&self) {
        self.count(|shard| &shard.accepted);
    }

    /// A connection comes from the process before; [`accepted`](Self::accepted) counts it as well.
    pub(crate) fn taken_over(&self, kind: ConnectionKind) {
        self.count(|shard| &shard.taken_over[kind as usize]);
    }

    #[inline]
    pub(crate) fn started(&self) {
        self.count(|shard| &shard.started);
    }

    /// A request is done with: its response was sent to the end, or not.
    #[inline]
    pub(crate) fn answered(&self, whole: bool) {
        self.count(|shard| &shard.answered);
        if !whole {
            self.count(|shard| &shard.abandoned);
        }
    }

    pub(crate) fn ended(&self, reason: CloseReason) {
        self.count(|shard| match reason {
            CloseReason::Finished => &shard.finished,
            CloseReason::IdleClosed => &shard.idle_closed,
            CloseReason::Error => &shard.errors,
            CloseReason::Aborted => &shard.aborted,
            CloseReason::Moved(kind) => &shard.moved[kind as usize],
        });
    }

    /// A connection has ended here while others moved; [`ended`](Self::ended) counts it as well.
    pub(crate) fn unmoved(&self, reason: UnmovedReason) {
        self.count(|shard| &shard.unmoved[reason as usize]);
    }

    /// Asks `expires` from now on when the certificate in use does.
    #[cfg(feature = "tls")]
    pub(crate) fn certificate(&self, expires: impl Fn() -> Option<SystemTime> + Send + Sync + 'static) {
        let _ = self.certificate.0.set(Box::new(expires));
    }

    /// A TLS handshake begins.
    #[cfg(feature = "tls")]
    pub(crate) fn handshake_started(&self) {
        self.count(|shard| &shard.handshakes.started);
    }

    /// A TLS handshake is done, as a short one or not.
    #[cfg(feature = "tls")]
    pub(crate) fn handshake_done(&self, is_resumed: bool) {
        self.count(|shard| &shard.handshakes.done);
        if is_resumed {
            self.count(|shard| &shard.handshakes.resumed);
        }
    }

    /// A TLS handshake has failed.
    #[cfg(feature = "tls")]
    pub(crate) fn handshake_failed(&self, reason: HandshakeFailure) {
        self.count(|shard| &shard.handshakes.failed[reason as usize]);
    }

    fn handshakes(&self) -> HandshakeStats {
        let failed = FailedHandshakes::new(array::from_fn(|reason| self.sum(|shard| &shard.handshakes.failed[reason])));
        let resumed = self.sum(|shard| &shard.handshakes.resumed);
        let done = self.sum(|shard| &shard.handshakes.done);
        let in_flight = self.sum(|shard| &shard.handshakes.started).saturating_sub(done + failed.total());
        HandshakeStats { done, resumed, failed, in_flight }
    }

    /// A connection was aborted before there was a service for it.
    pub(crate) fn abort_unserved(&self) {
        self.accepted();
        self.ended(CloseReason::Aborted);
    }

    /// A connection ended because making its service has panicked.
    pub(crate) fn failed_unserved(&self) {
        self.accepted();
        self.ended(CloseReason::Error);
    }

    /// How many requests there were so far.
    pub(crate) fn requests_started(&self) -> u64 {
        self.sum(|shard| &shard.started)
    }

    pub(crate) fn stats(&self) -> ListenerStats {
        let sum = |count: fn(&Shard) -> &AtomicU64| self.sum(count);
        // Ends before beginnings, and none of these reads is moved before an earlier one: then no difference can fall below zero by
        // what happens in between.
        let (finished, idle_closed) = (sum(|shard| &shard.finished), sum(|shard| &shard.idle_closed));
        let (errors, aborted) = (sum(|shard| &shard.errors), sum(|shard| &shard.aborted));
        let unmoved_by_reason = UnmovedByReason::new(array::from_fn(|reason| self.sum(|shard| &shard.unmoved[reason])));
        let moved_by_kind = MovedByKind::new(array::from_fn(|kind| self.sum(|shard| &shard.moved[kind])));
        let taken_over_by_kind = MovedByKind::new(array::from_fn(|kind| self.sum(|shard| &shard.taken_over[kind])));
        let (moved, unmoved) = (moved_by_kind.total(), unmoved_by_reason.total());
        let abandoned = sum(|shard| &shard.abandoned);
        let answered = sum(|shard| &shard.answered);
        let requests = answered.saturating_sub(abandoned);
        let in_flight = sum(|shard| &shard.started).saturating_sub(answered);
        let accepted = sum(|shard| &shard.accepted);
        let open = accepted.saturating_sub(finished + idle_closed + errors + aborted + moved);
        let idle = open.saturating_sub(in_flight);
        let name = self.name.to_string();
        ListenerStats {
            name,
            accepted,
            taken_over: taken_over_by_kind.total(),
            taken_over_by_kind,
            open,
            requests,
            in_flight,
            idle,
            finished,
            idle_closed,
            errors,
            aborted,
            moved,
            moved_by_kind,
            unmoved,
            unmoved_by_reason,
            handshakes: self.handshakes(),
            certificate_expires: self.certificate.expires(),
        }
    }

    fn sum(&self, count: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| count(shard).load(Ordering::Acquire)).sum()
    }

    #[inline]
    fn count(&self, of: impl FnOnce(&Shard) -> &AtomicU64) {
        let number = shard::of_this_thread();
        shard::increment(of(&self.shards[number]), number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_add_up_over_threads() {
        let counters = Counters::new("http".into());
        std::thread::scope(|scope| {
            for reason in [CloseReason::Finished, CloseReason::IdleClosed, CloseReason::Error, CloseReason::Aborted] {
                let counters = &counters;
                scope.spawn(move || {
                    counters.accepted();
                    counters.accepted();
                    counters.started();
                    counters.answered(true);
                    counters.started();
                    counters.answered(false);
                    counters.started();
                    counters.ended(reason);
                });
            }
        });
        let stats = counters.stats();
        assert_eq!((stats.accepted, stats.open), (8, 4));
        assert_eq!((stats.requests, stats.in_flight, stats.idle), (4, 4, 0));
        assert_eq!((stats.finished, stats.idle_closed, stats.errors, stats.aborted), (1, 1, 1, 1));
        assert_eq!((stats.moved, stats.unmoved), (0, 0));
    }

    #[test]
    fn what_moves_is_counted_by_kind_and_what_does_not_by_reason() {
        let counters = Counters::new("http".into());
        for kind in ConnectionKind::ALL.iter().copied() {
            for _ in 0..=kind as usize {
                counters.accepted();
                counters.ended(CloseReason::Moved(kind));
            }
        }
        for reason in UnmovedReason::ALL.iter().copied() {
            (0..=reason as usize).for_each(|_| counters.unmoved(reason));
        }
        counters.taken_over(ConnectionKind::Stream);
        let stats = counters.stats();
        assert_eq!((stats.accepted, stats.open, stats.moved), (10, 0, 10));
        assert!(stats.moved_by_kind.iter().all(|(kind, count)| count == kind as u64 + 1));
        assert_eq!((stats.taken_over, stats.taken_over_by_kind.of(ConnectionKind::Stream)), (1, 1));
        assert_eq!(stats.unmoved, 136);
        assert!(stats.unmoved_by_reason.iter().all(|(reason, count)| count == reason as u64 + 1));
    }
}
