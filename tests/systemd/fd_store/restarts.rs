//! `systemctl restart`, again and again, under clients that never send a request twice.

use std::{thread, time::Duration};

use super::service::{ADDRESS, UNIT, Unit};
use crate::support::{
    clients::{Clients, Habit, Outcome},
    systemd::{Systemd, has},
};

const RESTARTS: usize = 20;
pub(crate) const CLIENTS: usize = 16;

/// The clients, as they ask while the service is restarted; what became of them.
pub(crate) fn restarted(systemd: &Systemd, habit: Habit, restarts: usize) -> Outcome {
    let clients = Clients::new(ADDRESS.parse().unwrap(), habit);
    thread::scope(|scope| {
        let _stop = clients.stop_on_drop();
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                systemd.enter_network();
                clients.run();
            });
        }
        clients.wait_for(200);
        for _ in 0..restarts {
            systemd.run(&["systemctl", "restart", UNIT]);
            clients.wait_for(200);
        }
    });
    let outcome = clients.outcome().clone();
    let Outcome { answered, opened, lost, slowest } = &outcome;
    println!(
        "{restarts} restarts, {habit:?}: {answered} answered, {} lost, {opened} connections of {CLIENTS} clients, \
         the longest gap {slowest:.0?}",
        lost.len()
    );
    outcome
}

fn check(habit: Habit, unit: Unit) {
    let systemd = unit.start();
    let outcome = restarted(&systemd, habit, RESTARTS);
    assert!(outcome.lost.is_empty(), "{:?}\n{}", outcome.lost, systemd.log(UNIT));
    assert_eq!(outcome.opened, CLIENTS as u64, "connections were closed\n{}", systemd.log(UNIT));
    let log = systemd.log(UNIT);
    assert_eq!(log.matches("drained in").count(), RESTARTS, "every process ends in order:\n{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    let console = systemd.console();
    assert!(!console.contains("Failed") && !console.contains("timed out"), "{console}");
}

#[test]
fn clients_that_ask_back_to_back_lose_nothing_and_keep_their_connections() {
    check(Habit::default(), Unit::default());
}

#[test]
fn clients_that_think_lose_nothing_and_keep_their_connections() {
    check(Habit { thinks: Duration::from_millis(40), ..Habit::default() }, Unit::default());
}

#[test]
fn systemd_tells_how_many_it_keeps_and_clients_lose_nothing() {
    if has("$FDSTORE", 254) {
        check(Habit::default(), Unit { knows: false, ..Unit::default() });
    }
}

#[test]
fn clients_that_post_lose_nothing_and_keep_their_connections_with_a_socket_unit() {
    let habit = Habit { posts: true, thinks: Duration::from_millis(10), ..Habit::default() };
    check(habit, Unit { socket: true, ..Unit::default() });
}
