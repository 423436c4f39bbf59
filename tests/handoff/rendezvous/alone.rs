//! Handoffs of a service that plain `axum::serve` serves.

use std::fs;

use rustix::process::Signal;

use super::{
    harness::{Process, folder, get, met, under_load_of_new_connections, wait_for_generation, who},
    process::Settings,
};
use crate::support::http::Client;

fn alone() -> Settings {
    Settings { alone: true, ..Settings::default() }
}

#[test]
fn no_request_on_a_connection_of_its_own_is_lost_with_axum_serve() {
    let service = Process::start(&alone());
    let addr = service.addr();
    under_load_of_new_connections(addr, |_| {
        for generation in 1..=5 {
            let old = who(addr);
            old.signal(Signal::HUP);
            assert_eq!(service.hear("imports state "), "0 version 3");
            wait_for_generation(addr, generation);
            // The final state, when the old one serves no client any more.
            assert_eq!(service.hear("imports final "), format!("{} version 3", old.pid));
            service.hear("ends ");
        }
    });
    who(addr).signal(Signal::TERM);
    service.hear("ends ");
}

#[test]
fn who_fails_leaves_the_old_one_serving_with_axum_serve() {
    let folder = folder();
    let plan = folder.path().join("plan");
    let settings = Settings { plan: Some(plan.clone()), handoff_timeout: Some(2000), ..alone() };
    let service = Process::start(&settings);
    let addr = service.addr();
    let old = who(addr);
    under_load_of_new_connections(addr, |_| {
        for (words, says) in [("fail no database here", "no database here"), ("hang", "it was not ready within 2s")] {
            fs::write(&plan, words).unwrap();
            let reason = get(addr, "/handover");
            assert!(reason.starts_with("failed ") && reason.contains(says), "{reason}");
            service.hear("plans ");
            assert_eq!(who(addr), old);
        }
        assert!(get(addr, "/handover").starts_with("over to "));
        wait_for_generation(addr, 1);
    });
    who(addr).signal(Signal::TERM);
    service.hear("ends ");
    service.hear("ends ");
}

#[test]
fn server_and_axum_serve_hand_over_to_each_other() {
    let folder = folder();
    let with_server = met(folder.path().join("handoff.sock"));
    let with_axum = Settings { alone: true, ..with_server.clone() };
    let mut serving = Process::start(&with_server);
    let addr = serving.addr();
    under_load_of_new_connections(addr, |_| {
        for (generation, settings) in [(1, &with_axum), (2, &with_server), (3, &with_axum), (4, &with_axum)] {
            let mut idle = Client::connect(addr).unwrap();
            idle.get("/who").unwrap();
            let next = Process::start(settings);
            wait_for_generation(addr, generation);
            // Connections do not move: each is closed by the one that has it, in order.
            assert_eq!(idle.rest().unwrap(), b"");
            next.hear("imports final ");
            std::mem::replace(&mut serving, next).ended();
        }
    });
    serving.signal(Signal::TERM);
    serving.ended();
}
