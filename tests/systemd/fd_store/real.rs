//! `systemctl restart`, again and again, under clients of other makers: none loses a call, and their connections move.
//!
//! `RESTARTS=20` in the environment asks for so many restarts a load; 3 without.

use super::service::{ADDRESS, UNIT, Unit};
use crate::support::{
    clients::times,
    place::Place,
    real::{calls::Load, outcomes::Outcomes, programs},
    systemd::Systemd,
};

/// Restarts the service while the clients call that `start` starts.
#[track_caller]
fn restart_under(start: impl FnOnce(&Place) -> Vec<Load>) {
    let systemd = Unit::default().start();
    let loads = start(&systemd.network());
    loads.iter().for_each(|load| load.wait_for(1));
    let restarts = times("RESTARTS", 3);
    for _ in 0..restarts {
        systemd.run(&["systemctl", "restart", UNIT]);
        loads.iter().for_each(|load| load.wait_for(1));
    }
    let outcomes = Outcomes::of(loads);
    outcomes.print(&format!("{restarts} restarts"));
    outcomes.assert_none_lost(|| systemd.log(UNIT));
    assert_eq!(reports(&systemd).len(), restarts, "every process ends in order:\n{}", systemd.log(UNIT));
}

/// What each process has logged at its end.
fn reports(systemd: &Systemd) -> Vec<String> {
    systemd.log(UNIT).lines().filter(|line| line.contains("drained in")).map(str::to_owned).collect()
}

#[test]
fn go_loses_nothing_though_it_connects_again() {
    restart_under(|place| vec![programs::go(place, ADDRESS.parse().unwrap(), 1)]);
}
