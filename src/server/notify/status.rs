//! The text of `STATUS=`, which `systemctl status` shows: one line about what the server does, with its statistics.

use std::{fmt, time::Duration};

use crate::drain::{Drain, Stats};

/// What is open now, over all routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    connections: u64,
    requests: u64,
    tasks: u64,
}

impl Open {
    pub(super) fn now(stats: &Stats, drain: &Drain) -> Self {
        let tasks = u64::try_from(drain.tasks().len()).unwrap_or(u64::MAX);
        stats.read().iter().fold(Self { tasks, ..Self::default() }, |open, listener| Self {
            connections: open.connections + listener.open,
            requests: open.requests + listener.in_flight,
            ..open
        })
    }

    pub(super) fn serving(self, fault: Option<&str>, rolled_back: Option<&str>) -> String {
        let Self { connections, requests, .. } = self;
        let health = fault.map_or(String::new(), |fault| format!("; not well: {fault}"));
        let failure = rolled_back.map_or(String::new(), |reason| format!("; the last handoff failed: {reason}"));
        let (connections, requests) = (Count(connections, "connection"), Count(requests, "request"));
        format!("serving: {connections}, {requests} in flight{health}{failure}")
    }

    pub(super) fn draining(self, limit: Duration) -> String {
        let Self { connections, requests, tasks } = self;
        let counts = [Count(requests, "request"), Count(connections, "connection"), Count(tasks, "task")];
        let waiting: Vec<_> = counts.iter().filter(|count| count.0 > 0).map(ToString::to_string).collect();
        match waiting.is_empty() {
            true => "draining: nothing is left".to_owned(),
            false => format!("draining: waiting for {}, {limit:.0?} at most", waiting.join(", ")),
        }
    }
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
    use super::*;

    #[test]
    fn a_status_says_what_is_open_and_what_is_waited_for() {
        let open = Open { connections: 2, requests: 1, tasks: 0 };
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
}
