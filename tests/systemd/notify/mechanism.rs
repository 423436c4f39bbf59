//! Each thing that the notifier can say, and what systemd makes of it.

use super::obedient::Obedient;
use crate::support::{systemd::Systemd, wait::eventually};

#[test]
fn a_service_is_active_when_it_is_ready_reloading_when_it_says_so_and_ends_when_it_stops() {
    let systemd = Systemd::boot(&Obedient::unit(""));
    let mut service = Obedient::start(&systemd);
    assert_eq!(service.property("ActiveState"), "activating");
    service.tell("status it\u{e9} warms up");
    assert_eq!(service.property("StatusText"), "it\u{e9} warms up");
    service.tell("ready");
    assert_eq!(service.property("ActiveState"), "active");
    service.tell("reloading");
    assert_eq!(service.property("ActiveState"), "reloading");
    service.tell("ready");
    assert_eq!(service.property("ActiveState"), "active");
    service.tell("stopping");
    assert_eq!(service.property("ActiveState"), "deactivating");
    service.kill();
}

#[test]
fn a_start_and_a_stop_may_take_as_long_as_was_asked_for() {
    let times = "TimeoutStartSec=1\nTimeoutStopSec=1";
    // They ask for no more time, each starts after that, and so they run out of it first.
    let slow = |exec: &str, kind: &str| format!("[Service]\nType={kind}\nExecStart={exec}\n{times}\n");
    let slow_start = slow("/bin/sleep 1000", "notify");
    let slow_stop = slow("/bin/sh -c 'trap \"\" TERM; exec sleep 1000'", "exec");
    let slow = [("slow-start.service", slow_start), ("slow-stop.service", slow_stop)];
    let units = [&Obedient::unit(times)[..], &slow].concat();
    let systemd = Systemd::boot(&units);
    let mut service = Obedient::start(&systemd);
    service.tell("extend 60000");
    systemd.exec(&["systemctl", "start", "slow-start.service"]);
    assert_eq!(systemd.property("slow-start.service", "Result"), "timeout");
    assert_eq!(service.property("ActiveState"), "activating", "after more than the 1 s that a start may take");
    service.tell("ready");
    systemd.run(&["systemctl", "start", "slow-stop.service"]);
    service.tell("stopping");
    service.tell("extend 60000");
    systemd.exec(&["systemctl", "stop", "slow-stop.service"]);
    assert_eq!(systemd.property("slow-stop.service", "Result"), "timeout");
    assert_eq!(service.property("ActiveState"), "deactivating");
    service.kill();
    let late = systemd.console().lines().filter(|line| line.contains("timed out") && line.contains("obedient")).count();
    assert_eq!(late, 0, "{}", systemd.console());
}

#[test]
fn the_main_process_names_another_in_its_place_and_has_no_word_after_that() {
    let systemd = Systemd::boot(&Obedient::unit("NotifyAccess=main"));
    let mut service = Obedient::start(&systemd);
    service.tell("ready");
    let old = service.property("MainPID");
    let child = service.tell("name-child-main");
    let new = service.property("MainPID");
    assert_ne!(old, new, "the barrier came back after the change");
    assert_eq!(new, child);
    service.tell("status I am still here");
    assert_eq!(service.property("StatusText"), "", "the barrier came back, and nothing has changed");
}

#[test]
fn what_is_stored_comes_back_newest_first_until_it_is_removed() {
    let systemd = Systemd::boot(&Obedient::unit("FileDescriptorStoreMax=3"));
    let mut service = Obedient::start(&systemd);
    service.tell("ready");
    for store in ["store one", "store-unpolled two", "store three", "store four"] {
        service.tell(store);
    }
    assert_eq!(service.property("NFileDescriptorStore"), "3", "the fourth is beyond the limit");
    let restart = || {
        systemd.run(&["systemctl", "restart", "--no-block", "obedient.service"]);
        eventually("another process", || service.property("ActiveState") == "activating");
        let mut service = Obedient::connect(&systemd);
        service.tell("ready");
        service
    };
    let mut next = restart();
    assert_eq!(next.tell("stored"), "three=three two=two one=one");
    next.tell("remove two");
    assert_eq!(next.property("NFileDescriptorStore"), "2");
    drop(next);
    let mut last = restart();
    assert_eq!(last.tell("stored"), "three=three one=one");
}

#[test]
fn a_watchdog_is_set_for_the_main_process_and_bites_when_it_is_triggered() {
    let systemd = Systemd::boot(&Obedient::unit("WatchdogSec=60\nRestart=no"));
    let mut service = Obedient::start(&systemd);
    assert_eq!(service.tell("watchdog"), "Some(60s)");
    service.tell("ready");
    service.tell("feed");
    assert_eq!(service.property("ActiveState"), "active");
    service.tell_last("trigger");
    eventually("it is ended", || systemd.property("obedient.service", "ActiveState") == "failed");
    assert_eq!(systemd.property("obedient.service", "Result"), "watchdog");
}
