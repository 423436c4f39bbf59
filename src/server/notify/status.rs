//! The text of `STATUS=`, which `systemctl status` shows: one line about what the server does, with its statistics.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::drain::{Drain, MovedByKind, Stats};

/// What is open now, over all routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    connections: u64,
    requests: u64,
    tasks: u64,
    /// What has gone to the next process, and what has come from the one before.
    moved: MovedByKind,
    taken_over: MovedByKind,
    /// When the first certificate expires.
    expires: Option<SystemTime>,
}

/// How long before its certificate expires a status says so.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

impl Open {
    pub(super) fn now(stats: &Stats, drain: &Drain) -> Self {
        let tasks = u64::try_from(drain.tasks().len()).unwrap_or(u64::MAX);
        stats.read().iter().fold(Self { tasks, ..Self::default() }, |open, listener| Self {
            connections: open.connections + listener.open,
            requests: open.requests + listener.in_flight,
            moved: [open.moved, listener.moved_by_kind].into_iter().sum(),
            taken_over: [open.taken_over, listener.taken_over_by_kind].into_iter().sum(),
            expires: [open.expires, listener.certificate_expires].into_iter().flatten().min(),
            ..open
        })
    }

    pub(super) fn serving(self, fault: Option<&str>, rolled_back: Option<&str>) -> String {
        let Self { connections, requests, .. } = self;
        let health = fault.map_or(String::new(), |fault| format!("; not well: {fault}"));
        let failure = rolled_back.map_or(String::new(), |reason| format!("; the last handoff failed: {reason}"));
        let (connections, requests) = (Count(connections, "connection"), Count(requests, "request"));
        let taken_over = counted("taken over", self.taken_over);
        let certificate = self.certificate(SystemTime::now());
        format!("serving: {connections}, {requests} in flight{taken_over}{certificate}{health}{failure}")
    }

    /// What is to be said of the certificates.
    fn certificate(self, now: SystemTime) -> String {
        let left = self.expires.map(|expires| expires.duration_since(now));
        match left {
            Some(Ok(left)) if left <= SOON => {
                format!("; a certificate expires in {}", Count(left.as_secs() / (24 * 60 * 60), "day"))
            }
            Some(Err(_)) => "; a certificate has expired".to_owned(),
            _ => String::new(),
        }
    }

    pub(super) fn draining(self, limit: Duration) -> String {
        format!("draining: {}", self.waiting(limit))
    }

    pub(super) fn handed_over(self, limit: Duration) -> String {
        format!("handed over: {}", self.waiting(limit))
    }

    /// What is waited for, and what has moved.
    fn waiting(self, limit: Duration) -> String {
        let Self { connections, requests, tasks, moved, .. } = self;
        let counts = [Count(requests, "request"), Count(connections, "connection"), Count(tasks, "task")];
        let waiting: Vec<_> = counts.iter().filter(|count| count.0 > 0).map(ToString::to_string).collect();
        let moved = counted("moved", moved);
        match waiting.is_empty() {
            true => format!("nothing is left{moved}"),
            false => format!("waiting for {}, {limit:.0?} at most{moved}", waiting.join(", ")),
        }
    }
}

/// `; moved: 300 http1, 12 upgraded`, and nothing if none has.
fn counted(what: &str, counts: MovedByKind) -> String {
    if counts.total() == 0 { String::new() } else { format!("; {what}: {counts}") }
}

/// `1 connection`, `2 connections`.
struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = self;
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "{count} {what}{plural}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::drain::{CloseReason, ConnectionKind, Counters};

    #[test]
    fn a_status_says_what_is_open_and_what_is_waited_for() {
        let open = Open { connections: 2, requests: 1, ..Open::default() };
        assert_eq!(open.serving(None, None), "serving: 2 connections, 1 request in flight");
        assert_eq!(
            Open::default().serving(Some("no database"), None),
            "serving: 0 connections, 0 requests in flight; not well: no database"
        );
        let limit = Duration::from_secs(30);
        assert_eq!(open.draining(limit), "draining: waiting for 1 request, 2 connections, 30s at most");
        assert_eq!(Open { tasks: 1, ..Open::default() }.draining(limit), "draining: waiting for 1 task, 30s at most");
        assert_eq!(Open::default().draining(limit), "draining: nothing is left");
    }

    #[test]
    fn a_status_says_that_a_certificate_expires_or_has() {
        let now = SystemTime::now();
        let with = |expires| Open { expires: Some(expires), ..Open::default() }.certificate(now);
        let days = |count: u64| Duration::from_secs(count * 24 * 60 * 60);
        assert_eq!(with(now + days(15)), "");
        assert_eq!(with(now + days(13) + days(1) / 2), "; a certificate expires in 13 days");
        assert_eq!(with(now + days(1)), "; a certificate expires in 1 day");
        assert_eq!(with(now - days(1)), "; a certificate has expired");
        assert!(
            Open { expires: Some(now), ..Open::default() }.serving(None, None).ends_with("; a certificate has expired")
        );
    }

    #[test]
    fn a_status_says_what_has_moved() {
        let (stats, counters) =
            (Stats::default(), [Counters::new("a".into()), Counters::new("b".into())].map(Arc::new));
        for counters in &counters {
            (0..3).for_each(|_| counters.accepted());
            counters.taken_over(ConnectionKind::Http1);
            counters.ended(CloseReason::Moved(ConnectionKind::Http2));
        }
        counters[0].ended(CloseReason::Moved(ConnectionKind::Upgraded));
        stats.fill(counters.into());
        let open = Open::now(&stats, &Drain::new());
        let limit = Duration::from_secs(30);
        assert_eq!(open.serving(None, None), "serving: 3 connections, 0 requests in flight; taken over: 2 http1");
        let waiting = "waiting for 3 connections, 30s at most; moved: 2 http2, 1 upgraded";
        assert_eq!(open.draining(limit), format!("draining: {waiting}"));
        assert_eq!(open.handed_over(limit), format!("handed over: {waiting}"));
        let all_gone = Open { connections: 0, ..open };
        assert_eq!(all_gone.handed_over(limit), "handed over: nothing is left; moved: 2 http2, 1 upgraded");
    }
}
