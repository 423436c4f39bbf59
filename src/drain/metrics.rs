//! The statistics through the [`metrics`] facade.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::{HandshakeStats, ListenerStats, Stats};

const ACCEPTED: &str = "axum_activation_connections_accepted_total";
const TAKEN_OVER: &str = "axum_activation_connections_taken_over_total";
const ENDED: &str = "axum_activation_connections_ended_total";
const MOVED: &str = "axum_activation_connections_moved_total";
const UNMOVED: &str = "axum_activation_connections_unmoved_total";
const OPEN: &str = "axum_activation_connections_open";
const IDLE: &str = "axum_activation_connections_idle";
const REQUESTS: &str = "axum_activation_requests_total";
const IN_FLIGHT: &str = "axum_activation_requests_in_flight";
const HANDSHAKES: &str = "axum_activation_tls_handshakes_total";
const HANDSHAKES_IN_FLIGHT: &str = "axum_activation_tls_handshakes_in_flight";

impl Stats {
    /// Publishes the statistics of now through the `metrics` facade, with the label `listener`. It needs the feature
    /// `metrics`.
    ///
    /// | name | kind | |
    /// | --- | --- | --- |
    /// | `axum_activation_connections_accepted_total` | counter | |
    /// | `axum_activation_connections_taken_over_total` | counter | with the label `kind`: [`ConnectionKind::name`](super::ConnectionKind::name) |
    /// | `axum_activation_connections_ended_total` | counter | with the label `ending`: `finished`, `idle_closed`, `error`, `aborted`, `moved` |
    /// | `axum_activation_connections_moved_total` | counter | with the label `kind` |
    /// | `axum_activation_connections_unmoved_total` | counter | with the label `reason`: [`UnmovedReason::name`](super::UnmovedReason::name) |
    /// | `axum_activation_connections_open` | gauge | |
    /// | `axum_activation_connections_idle` | gauge | |
    /// | `axum_activation_requests_total` | counter | responses that were sent to the end |
    /// | `axum_activation_requests_in_flight` | gauge | |
    /// | `axum_activation_tls_handshakes_total` | counter | with the label `result`: `full`, `resumed`, or [`HandshakeFailure::name`](super::HandshakeFailure::name) |
    /// | `axum_activation_tls_handshakes_in_flight` | gauge | |
    ///
    /// Nothing is published in between, so that no request pays for it: call it before each scrape, or every few
    /// seconds beside the exporter's upkeep.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use std::time::Duration;
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// let server = Server::new(ActivatedListeners::from_env()?);
    /// let stats = server.stats();
    /// tokio::spawn(async move {
    ///     let mut upkeep = tokio::time::interval(Duration::from_secs(5));
    ///     loop {
    ///         upkeep.tick().await;
    ///         stats.publish();
    ///     }
    /// });
    /// # tokio::task::yield_now().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish(&self) {
        describe();
        self.read().into_iter().for_each(publish);
    }
}

fn publish(stats: ListenerStats) {
    let ListenerStats {
        name,
        accepted,
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
        taken_over_by_kind,
        unmoved_by_reason,
        handshakes,
        ..
    } = stats;
    counter!(ACCEPTED, "listener" => name.clone()).absolute(accepted);
    counter!(REQUESTS, "listener" => name.clone()).absolute(requests);
    let endings = [
        ("finished", finished),
        ("idle_closed", idle_closed),
        ("error", errors),
        ("aborted", aborted),
        ("moved", moved),
    ];
    for (ending, count) in endings {
        counter!(ENDED, "listener" => name.clone(), "ending" => ending).absolute(count);
    }
    for (counter_name, counts) in [(TAKEN_OVER, taken_over_by_kind), (MOVED, moved_by_kind)] {
        for (kind, count) in counts.iter() {
            counter!(counter_name, "listener" => name.clone(), "kind" => kind.name()).absolute(count);
        }
    }
    for (reason, count) in unmoved_by_reason.iter() {
        counter!(UNMOVED, "listener" => name.clone(), "reason" => reason.name()).absolute(count);
    }
    // None where TLS is not spoken.
    if handshakes != HandshakeStats::default() {
        let done = [("full", handshakes.done - handshakes.resumed), ("resumed", handshakes.resumed)];
        let failed = handshakes.failed.iter().map(|(reason, count)| (reason.name(), count));
        for (result, count) in done.into_iter().chain(failed) {
            counter!(HANDSHAKES, "listener" => name.clone(), "result" => result).absolute(count);
        }
        gauge!(HANDSHAKES_IN_FLIGHT, "listener" => name.clone()).set(as_f64(handshakes.in_flight));
    }
    for (gauge_name, count) in [(OPEN, open), (IDLE, idle), (IN_FLIGHT, in_flight)] {
        gauge!(gauge_name, "listener" => name.clone()).set(as_f64(count));
    }
}

/// Recorders keep the first description, and may be installed at any time: so each time.
fn describe() {
    describe_counter!(ACCEPTED, Unit::Count, "Connections accepted.");
    describe_counter!(TAKEN_OVER, Unit::Count, "Connections taken over from the process before, by kind.");
    describe_counter!(ENDED, Unit::Count, "Connections ended, by how they did.");
    describe_counter!(MOVED, Unit::Count, "Connections moved to the next process, by kind.");
    describe_counter!(UNMOVED, Unit::Count, "Connections that ended while others moved, by reason.");
    describe_counter!(REQUESTS, Unit::Count, "Responses that were sent to the end.");
    describe_gauge!(OPEN, Unit::Count, "Connections open now.");
    describe_gauge!(IDLE, Unit::Count, "Connections on which nothing is being answered now.");
    describe_counter!(HANDSHAKES, Unit::Count, "TLS handshakes, by how they ended.");
    describe_gauge!(HANDSHAKES_IN_FLIGHT, Unit::Count, "TLS handshakes that are being done now.");
    describe_gauge!(IN_FLIGHT, Unit::Count, "Requests that are being answered now.");
}

/// Exact up to 2 to the power of 53.
#[expect(clippy::cast_precision_loss, reason = "no process has so many connections open")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use metrics::with_local_recorder;
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::{
        super::{CloseReason, ConnectionKind, Counters, UnmovedReason},
        *,
    };

    #[test]
    fn what_is_published_are_the_stats_of_now() {
        let (stats, counters) = (Stats::default(), Arc::new(Counters::new("http".into())));
        stats.fill(vec![Arc::clone(&counters)]);
        let recorder = DebuggingRecorder::new();
        (0..4).for_each(|_| counters.accepted());
        counters.taken_over(ConnectionKind::Http1);
        counters.started();
        with_local_recorder(&recorder, || stats.publish());
        counters.answered(true);
        counters.ended(CloseReason::Aborted);
        counters.unmoved(UnmovedReason::Busy);
        counters.ended(CloseReason::Moved(ConnectionKind::Http2));
        with_local_recorder(&recorder, || stats.publish());

        let mut published = published(&recorder);
        // Of those that are 0, one of each stands for the others.
        published.retain(|name, count| {
            *count > 0.0 || !(name.contains("moved_total") || name.contains("taken_over")) || name.contains("stream")
        });
        let expected = [
            ("axum_activation_connections_accepted_total{listener=http}", 4.0),
            ("axum_activation_connections_taken_over_total{listener=http,kind=http1}", 1.0),
            ("axum_activation_connections_taken_over_total{listener=http,kind=stream}", 0.0),
            ("axum_activation_connections_ended_total{listener=http,ending=idle_closed}", 0.0),
            ("axum_activation_connections_ended_total{listener=http,ending=aborted}", 1.0),
            ("axum_activation_connections_ended_total{listener=http,ending=moved}", 1.0),
            ("axum_activation_connections_moved_total{listener=http,kind=http2}", 1.0),
            ("axum_activation_connections_moved_total{listener=http,kind=stream}", 0.0),
            ("axum_activation_connections_unmoved_total{listener=http,reason=busy}", 1.0),
            ("axum_activation_connections_unmoved_total{listener=http,reason=open_streams}", 0.0),
            ("axum_activation_connections_ended_total{listener=http,ending=error}", 0.0),
            ("axum_activation_connections_ended_total{listener=http,ending=finished}", 0.0),
            ("axum_activation_connections_idle{listener=http}", 2.0),
            ("axum_activation_connections_open{listener=http}", 2.0),
            ("axum_activation_requests_in_flight{listener=http}", 0.0),
            ("axum_activation_requests_total{listener=http}", 1.0),
        ];
        assert_eq!(published, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[cfg(feature = "tls")]
    #[test]
    fn handshakes_are_published_where_there_are_any() {
        let (stats, counters) = (Stats::default(), Arc::new(Counters::new("https".into())));
        stats.fill(vec![Arc::clone(&counters)]);
        let recorder = DebuggingRecorder::new();
        (0..4).for_each(|_| counters.handshake_started());
        counters.handshake_done(false);
        counters.handshake_done(true);
        counters.handshake_failed(super::super::HandshakeFailure::Timeout);
        with_local_recorder(&recorder, || stats.publish());
        let mut published = published(&recorder);
        published.retain(|name, count| name.contains("handshakes") && *count > 0.0);
        let expected = [
            ("axum_activation_tls_handshakes_in_flight{listener=https}", 1.0),
            ("axum_activation_tls_handshakes_total{listener=https,result=full}", 1.0),
            ("axum_activation_tls_handshakes_total{listener=https,result=resumed}", 1.0),
            ("axum_activation_tls_handshakes_total{listener=https,result=timeout}", 1.0),
        ];
        assert_eq!(published, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn before_the_server_runs_nothing_is_published() {
        let recorder = DebuggingRecorder::new();
        with_local_recorder(&recorder, || Stats::default().publish());
        assert!(published(&recorder).is_empty());
    }

    fn published(recorder: &DebuggingRecorder) -> BTreeMap<String, f64> {
        let entries = recorder.snapshotter().snapshot().into_vec();
        entries.into_iter().map(|(key, _, _, value)| (shown(key.key()), as_number(&value))).collect()
    }

    fn shown(key: &metrics::Key) -> String {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        format!("{}{{{}}}", key.name(), labels.join(","))
    }

    fn as_number(value: &DebugValue) -> f64 {
        match value {
            DebugValue::Counter(count) => as_f64(*count),
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => panic!("there are no histograms"),
        }
    }
}
