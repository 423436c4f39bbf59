//! `systemctl restart`, again and again, under clients of other makers: none loses a call, and their connections move.
//!
//! `RESTARTS=20` in the environment asks for so many restarts a load; 3 without.

use super::service::{ADDRESS, PROCESSED, UNIT, Unit};
use crate::support::{
    clients::times,
    place::Place,
    real::{
        calls::Load,
        events,
        h2load::{Asks, H2load},
        outcomes::{Moves, Outcomes},
        programs,
        tonic::{self, Kind},
        websocket,
    },
    service::Processed,
    systemd::Systemd,
};

/// Of each kind.
const LASTING: usize = 200;

/// Restarts the service while the clients call that `start` starts: how many connections they opened, and how many moved.
#[track_caller]
fn restart_under(start: impl FnOnce(&Place) -> Vec<Load>) -> (Outcomes, Vec<Moves>) {
    let systemd = Unit::default().start();
    let loads = start(&systemd.network());
    loads.iter().for_each(|load| load.wait_for(1));
    let restarts = times("RESTARTS", 3);
    for _ in 0..restarts {
        systemd.run(&["systemctl", "restart", UNIT]);
        loads.iter().for_each(|load| load.wait_for(1));
    }
    let outcomes = Outcomes::of(loads);
    let moves: Vec<_> = reports(&systemd).iter().map(|report| Moves::of(report)).collect();
    outcomes.print(&format!("{restarts} restarts"));
    for report in reports(&systemd) {
        println!("{}", report.split("report=").last().unwrap_or_default());
    }
    outcomes.assert_none_lost(|| systemd.log(UNIT));
    let processed = Processed::read(&systemd.path(PROCESSED));
    assert!(processed.len() > 0, "nothing was noted");
    processed.assert_none_twice();
    assert_eq!(moves.len(), restarts, "every process ends in order:\n{}", systemd.log(UNIT));
    (outcomes, moves)
}

/// What each process has logged at its end.
fn reports(systemd: &Systemd) -> Vec<String> {
    systemd.log(UNIT).lines().filter(|line| line.contains("drained in")).map(str::to_owned).collect()
}

#[test]
fn clients_over_http2_lose_nothing_and_most_connections_are_kept() {
    let addr = ADDRESS.parse().unwrap();
    let load = |asks, streams, requests| H2load { asks, connections: 4, streams, window_bits: 16, requests };
    let (_, moves) = restart_under(|place| {
        vec![
            load(Asks::Get, 8, 1_000).start(place, addr),
            load(Asks::Post, 8, 500).start(place, addr),
            tonic::calls(place, addr, 4, &[Kind::Unary], 1),
            tonic::calls(place, addr, 4, &[Kind::Client, Kind::Server, Kind::Both], 1_000_000_000),
            programs::grpcio(place, addr, 2_000_000_000),
            programs::node(place, addr, 3_000_000_000),
        ]
    });
    let (moved, unmoved) = moves.iter().fold((0, 0), |sum, it| (sum.0 + it.http2, sum.1 + it.unmoved));
    assert!(moved >= 19 * unmoved, "{moves:?}");
}

#[test]
fn go_loses_nothing_though_it_connects_again() {
    restart_under(|place| vec![programs::go(place, ADDRESS.parse().unwrap(), 1)]);
}

#[test]
fn web_sockets_and_event_streams_lose_nothing_and_are_kept() {
    let addr = ADDRESS.parse().unwrap();
    let (outcomes, moves) =
        restart_under(|place| vec![websocket::clients(place, addr, LASTING, 1), events::clients(place, addr, LASTING)]);
    assert_eq!(outcomes.opened(), 2 * LASTING as u64, "connections were closed");
    for it in moves {
        assert_eq!((it.upgraded, it.stream, it.unmoved), (LASTING as u64, LASTING as u64, 0));
    }
}
