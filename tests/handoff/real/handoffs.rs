//! Handoffs, again and again, while clients call.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{
    clients::times,
    real::{
        calls::Load,
        outcomes::{Moves, Outcomes},
    },
    service::{Line, Processed, Service},
    wait::until,
};

/// Between the starts of two handoffs, unless one takes longer.
const PERIOD: Duration = Duration::from_millis(100);

/// What became of all.
pub(crate) struct HandedOver {
    pub(crate) handoffs: usize,
    pub(crate) outcomes: Outcomes,
    pub(crate) processed: Processed,
    /// What each process but the last says of itself at its end.
    pub(crate) reports: Vec<String>,
}

/// Hands over from one generation to the next while the clients call that `start` starts.
#[track_caller]
pub(crate) fn hand_over_under(settings: &str, start: impl FnOnce(SocketAddr) -> Vec<Load>) -> HandedOver {
    let service = Service::start(settings);
    let loads = start(service.addr);
    loads.iter().for_each(|load| load.wait_for(1));
    let handoffs = times("HANDOVERS", 5);
    let mut serving = service.who();
    let mut old = serving;
    for _ in 0..handoffs {
        let began = Instant::now();
        old = std::mem::replace(&mut serving, service.hand_over());
        until(began + PERIOD);
    }
    // A client that stops before would close a connection that is about to move.
    service.wait_for_word(old.pid, "ends ");
    let outcomes = Outcomes::of(loads);
    let (lines, processed) = service.end();
    let handed_over = HandedOver { handoffs, outcomes, processed, reports: reports(&lines) };
    handed_over.outcomes.print(&handed_over.summary());
    for report in handed_over.reports.iter().filter(|report| Moves::of(report).unmoved > 0) {
        println!("{report}");
    }
    handed_over
}

impl HandedOver {
    /// Fails where a call was lost, or came to a handler more than once.
    #[track_caller]
    pub(crate) fn assert_none_lost(&self) {
        self.outcomes.assert_none_lost(|| format!("{:#?}", self.reports));
        self.processed.assert_none_twice();
    }

    /// Fails unless so many handlers were called as calls were answered.
    #[track_caller]
    pub(crate) fn assert_each_once(&self) {
        assert_eq!(self.processed.len() as u64, self.outcomes.answered());
    }

    /// Fails unless 95 % of the connections have moved at the handoffs.
    #[track_caller]
    pub(crate) fn assert_most_move(&self) {
        assert!(Moves::sum(&self.reports).percent() >= 95, "{}: {:#?}", self.summary(), self.reports);
    }

    /// Fails unless every connection has moved at each handoff.
    #[track_caller]
    pub(crate) fn assert_all_move(&self, connections: u64) {
        assert_eq!(self.outcomes.opened(), connections, "connections were closed: {:#?}", self.reports);
        for report in &self.reports {
            let moves = Moves::of(report);
            assert_eq!((moves.moved(), moves.unmoved), (connections, 0), "{report}");
        }
    }

    fn summary(&self) -> String {
        let all = Moves::sum(&self.reports);
        let least = self.reports.iter().map(|report| Moves::of(report).percent()).min().unwrap_or_default();
        format!("{} handoffs, {} % of connections moved, {least} % at least", self.handoffs, all.percent())
    }
}

fn reports(lines: &[Line]) -> Vec<String> {
    let reports: Vec<_> = lines.iter().filter_map(|line| line.text.strip_prefix("ends ")).map(str::to_owned).collect();
    reports.split_last().map(|(_, reports)| reports.to_vec()).unwrap_or_default()
}

#[test]
fn a_report_says_what_moved_and_what_did_not() {
    let report = "drained in 1.2s; http: 9 requests, 8 connections finished, 0 closed idle, 0 errors, 0 aborted, \
                  50 moved (42 http1, 8 http2), 5 not moved (3 open_streams, 2 going_away)";
    let moves = Moves::of(report);
    assert_eq!(moves, Moves { http2: 8, unmoved: 3, ..Moves::default() });
    assert_eq!(moves.percent(), 72);
}
