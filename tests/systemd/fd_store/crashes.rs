//! A process that ends without a word: what was stored before outlives it.

use std::thread;

use super::service::{ADDRESS, UNIT, Unit};
use crate::support::{http::Client, load::Load, systemd::Systemd, wait::eventually};

const CRASHES: usize = 10;
const CLIENTS: usize = 4;

fn kill(systemd: &Systemd) {
    systemd.run(&["systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT]);
}

pub(crate) fn main_pid(systemd: &Systemd) -> String {
    systemd.property(UNIT, "MainPID")
}

pub(crate) fn stored(systemd: &Systemd) -> usize {
    systemd.property(UNIT, "NFileDescriptorStore").parse().unwrap()
}

/// A connection that has had an answer.
pub(crate) fn connect(systemd: &Systemd) -> Client {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            systemd.enter_network();
            let mut client = Client::connect(ADDRESS).unwrap();
            assert_eq!(client.get("/1").unwrap().text(), "1");
            client
        });
        inside.join().unwrap()
    })
}

#[test]
fn no_connect_is_refused_when_the_service_is_killed_under_load_again_and_again() {
    let systemd = Unit::default().start();
    eventually("the listener is stored", || stored(&systemd) == 1);
    let load = Load::default();
    thread::scope(|scope| {
        let _stop = load.stop_on_drop();
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                systemd.enter_network();
                load.run(&ADDRESS.parse().unwrap());
            });
        }
        for crash in 0..=CRASHES {
            let enough = load.answered() + 100;
            eventually("the clients get answers", || load.answered() >= enough);
            if crash < CRASHES {
                let pid = main_pid(&systemd);
                kill(&systemd);
                eventually("another process", || !["0", &pid].contains(&&*main_pid(&systemd)));
            }
        }
    });
    println!("{CRASHES} crashes: {load}");
    assert!(load.refused().is_empty(), "{load}, the first: {}", load.refused()[0]);
    assert_eq!(systemd.property(UNIT, "NRestarts"), CRASHES.to_string());
    assert_eq!(stored(&systemd), 1, "the same listener is stored once");
}

#[test]
fn connections_that_a_drain_has_stored_outlive_a_process_that_is_killed_in_it() {
    let systemd = Unit::default().start();
    let mut idle: Vec<_> = (0..20).map(|_| connect(&systemd)).collect();
    let mut slow = connect(&systemd);
    slow.ask("/slow/30000").unwrap();
    let pid = main_pid(&systemd);
    systemd.run(&["systemctl", "restart", "--no-block", UNIT]);
    eventually("all are stored, the listener and the journal too", || stored(&systemd) == idle.len() + 2);
    kill(&systemd);
    eventually("another process", || !["0", &pid].contains(&&*main_pid(&systemd)));
    for client in &mut idle {
        assert_ne!(client.get("/pid").unwrap().text(), pid);
    }
    assert!(slow.answer().is_err(), "no process has its answer");
    eventually("only the listener is left in the store", || stored(&systemd) == 1);
}
