//! What `systemctl show` says, looked at every 20 ms through a service's life, is never wrong.

use std::thread;

use super::server::units;
use crate::support::{
    looks::{Look, Looking},
    systemd::Systemd,
    wait::eventually,
};

const UNIT: &str = "managed.service";

/// What is said of a state and of what is done in it is one and the same.
fn is_true(look: &Look) -> bool {
    let has_process = look.main_pid > 0;
    match (look.active.as_str(), look.sub.as_str()) {
        // The last words of the one before are still there, and it has no process.
        ("activating", "auto-restart" | "auto-restart-queued") | ("inactive" | "failed", _) => !has_process,
        ("activating", _) => has_process && (look.status.is_empty() || look.says(&["starting: "])),
        ("active", _) => has_process && look.says(&["serving: "]),
        // It is asked to stop, and then it does.
        ("deactivating", _) => look.says(&["serving: ", "starting: ", "draining: ", "drained in "]),
        _ => false,
    }
}

#[test]
fn what_systemctl_shows_every_20_ms_is_never_wrong() {
    let systemd = Systemd::boot(&units(("WatchdogSec=10", "WatchdogSec=1"), "Environment=TOKIO_WORKER_THREADS=1"));
    let get = |path: &str| systemd.curl(&[&format!("http://127.0.0.1:8080{path}")]);
    let main_pid = || systemd.property(UNIT, "MainPID");
    let looking = Looking::start(&systemd, UNIT);
    get("/");
    thread::scope(|scope| {
        let slow = scope.spawn(|| get("/slow/3"));
        eventually("the request is in flight", || systemd.property(UNIT, "StatusText").contains("1 request in flight"));
        systemd.run(&["systemctl", "restart", UNIT]);
        assert_eq!(slow.join().unwrap(), "done");
    });
    let killed = main_pid();
    systemd.run(&["systemctl", "kill", "--signal=KILL", UNIT]);
    eventually("another is started", || !["0", &killed].contains(&main_pid().as_str()));
    get("/");
    systemd.exec(&["curl", "-sS", "http://127.0.0.1:8080/block/60"]);
    get("/");
    systemd.run(&["systemctl", "stop", UNIT]);
    let looks = looking.stop(&systemd);
    looks.assert_all(is_true);
    for state in ["activating", "active", "deactivating", "inactive"] {
        assert!(looks.saw(|look| look.active == state), "{state} was not seen:\n{}", looks.story());
    }
    assert!(looks.saw(|look| look.says(&["draining: waiting for 1 request"])), "{}", looks.story());
    let last = looks.0.last().unwrap();
    assert!(last.active == "inactive" && last.status.starts_with("drained in "), "{last}");
}
