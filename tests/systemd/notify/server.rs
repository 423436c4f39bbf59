//! A server under systemd: its drain, its watchdog, its unit files.

use std::thread;

use crate::support::{
    systemd::{Systemd, shipped},
    wait::eventually,
};

const UNIT: &str = "managed.service";

/// The shipped units, with a line of the service changed, and another added.
pub(crate) fn units(change: (&str, &str), add: &str) -> [(&'static str, String); 2] {
    let (name, text) = shipped(UNIT);
    assert!(text.contains(change.0), "{} is no line of {name}", change.0);
    [shipped("managed.socket"), (name, format!("{}{add}\n", text.replace(change.0, change.1)))]
}

fn get(systemd: &Systemd, path: &str) -> String {
    systemd.curl(&[&format!("http://127.0.0.1:8080{path}")])
}

#[test]
fn a_drain_that_takes_longer_than_timeout_stop_sec_ends_by_itself() {
    let systemd = Systemd::boot(&units(("TimeoutStopSec=35", "TimeoutStopSec=3"), ""));
    get(&systemd, "/");
    thread::scope(|scope| {
        let slow = scope.spawn(|| get(&systemd, "/slow/8"));
        eventually("the request is in flight", || systemd.property(UNIT, "StatusText").contains("1 request in flight"));
        systemd.run(&["systemctl", "stop", UNIT]);
        assert_eq!(slow.join().unwrap(), "done");
    });
    assert_eq!(systemd.property(UNIT, "Result"), "success");
    assert!(systemd.log(UNIT).contains("drained in"), "{}", systemd.log(UNIT));
    assert!(!systemd.console().contains("timed out"), "{}", systemd.console());
}

#[test]
fn the_watchdog_restarts_a_service_whose_runtime_is_stuck_and_only_that() {
    let systemd = Systemd::boot(&units(("WatchdogSec=10", "WatchdogSec=1"), "Environment=TOKIO_WORKER_THREADS=1"));
    get(&systemd, "/");
    let first = systemd.property(UNIT, "MainPID");
    // Idle for more than a second, one request for three, a drain for three: none of it is stuck.
    for _ in 0..4 {
        let fed = systemd.property(UNIT, "WatchdogTimestampMonotonic");
        eventually("it is fed", || systemd.property(UNIT, "WatchdogTimestampMonotonic") != fed);
    }
    assert_eq!(get(&systemd, "/slow/3"), "done");
    assert_eq!(get(&systemd, "/"), format!("process {first}"));
    thread::scope(|scope| {
        let slow = scope.spawn(|| get(&systemd, "/slow/3"));
        eventually("the request is in flight", || systemd.property(UNIT, "StatusText").contains("1 request in flight"));
        systemd.run(&["systemctl", "restart", UNIT]);
        assert_eq!(slow.join().unwrap(), "done");
    });
    assert_eq!(systemd.property(UNIT, "NRestarts"), "0");
    assert!(!systemd.console().to_lowercase().contains("watchdog timeout"), "{}", systemd.console());

    let stuck = systemd.property(UNIT, "MainPID");
    systemd.exec(&["curl", "-sS", "http://127.0.0.1:8080/block/60"]);
    eventually("systemd says so", || systemd.console().contains("Watchdog timeout (limit 1s)!"));
    let next = get(&systemd, "/");
    assert_ne!(next, format!("process {stuck}"));
    assert_eq!(systemd.property(UNIT, "NRestarts"), "1");
}

#[test]
fn the_watchdog_restarts_a_service_that_says_that_it_is_not_well() {
    let systemd = Systemd::boot(&units(("WatchdogSec=10", "WatchdogSec=3"), ""));
    let sick = get(&systemd, "/");
    get(&systemd, "/sick");
    let status = "asked for /sick";
    eventually("its status says so", || systemd.property(UNIT, "StatusText").ends_with(status));
    eventually("another is started", || systemd.property(UNIT, "NRestarts") == "1");
    assert_ne!(get(&systemd, "/"), sick);
    assert!(systemd.console().contains("Watchdog timeout (limit 3s)!"), "{}", systemd.console());
}
