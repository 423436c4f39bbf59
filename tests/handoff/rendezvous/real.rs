//! Handoffs from container to container under clients of other makers. The containers share the network, and each has its own
//! processes and mounts.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::process::{Signal, kill_process};

use super::{
    harness::{Process, folder, met, wait_for_generation},
    process::Settings,
};
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
    successive::PROCESSED,
};

/// Of each kind.
const LASTING: usize = 200;

/// Starts one container after the other, in each a process that takes over from the one before, while the clients call that
/// `start` starts: how many connections they opened, and what each process but the last reports.
#[track_caller]
fn hand_over_under(start: impl FnOnce(SocketAddr) -> Vec<Load>) -> (Outcomes, Vec<String>) {
    let folder = folder();
    let mut serving = start_container(folder.path(), 0);
    let addr = serving.addr();
    let loads = start(addr);
    loads.iter().for_each(|load| load.wait_for(1));
    let handoffs = times("HANDOVERS", 4);
    let reports = (1..=handoffs).map(|generation| {
        let next = start_container(folder.path(), generation);
        wait_for_generation(addr, generation as u64);
        let old = std::mem::replace(&mut serving, next);
        let report = old.hear("ends ");
        loads.iter().for_each(|load| load.wait_for(1));
        report
    });
    let reports: Vec<_> = reports.collect();
    let outcomes = Outcomes::of(loads);
    kill_process(serving.first_in_container(), Signal::TERM).unwrap();
    serving.ended();
    let moves = Moves::sum(&reports);
    outcomes.print(&format!("{handoffs} handoffs, {} % of connections moved", moves.percent()));
    outcomes.assert_none_lost(|| format!("{reports:#?}"));
    let processed = Processed::read(&folder.path().join(PROCESSED));
    assert!(processed.len() > 0, "nothing was noted");
    processed.assert_none_twice();
    (outcomes, reports)
}

fn start_container(folder: &Path, generation: usize) -> Process {
    let name = format!("app-{generation}");
    let inside = PathBuf::from("/mnt").join(&name);
    let settings = Settings { witness: Some(inside.join(PROCESSED)), ..met(inside.join("handoff.sock")) };
    Process::start_in_container(&settings, folder, &name)
}

#[test]
fn clients_over_http2_lose_nothing_and_most_connections_move() {
    let load = |asks, streams, requests| H2load { asks, connections: 4, streams, window_bits: 16, requests };
    let here = Place::default();
    let (_, reports) = hand_over_under(|addr| {
        vec![
            load(Asks::Get, 8, 1_000).start(&here, addr),
            load(Asks::Post, 8, 500).start(&here, addr),
            tonic::calls(&here, addr, 4, &[Kind::Unary], 1),
            tonic::calls(&here, addr, 4, &[Kind::Client, Kind::Server, Kind::Both], 1_000_000_000),
            programs::grpcio(&here, addr, 2_000_000_000),
            programs::node(&here, addr, 3_000_000_000),
        ]
    });
    assert!(Moves::sum(&reports).percent() >= 95, "{reports:#?}");
}

#[test]
fn web_sockets_and_event_streams_lose_nothing_and_move() {
    let here = Place::default();
    let (outcomes, reports) = hand_over_under(|addr| {
        vec![websocket::clients(&here, addr, LASTING, 1), events::clients(&here, addr, LASTING)]
    });
    assert_eq!(outcomes.opened(), 2 * LASTING as u64, "connections were closed: {reports:#?}");
    for report in &reports {
        let moves = Moves::of(report);
        assert_eq!((moves.upgraded, moves.stream, moves.unmoved), (LASTING as u64, LASTING as u64, 0), "{report}");
    }
}
