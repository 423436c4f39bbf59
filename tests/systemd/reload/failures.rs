//! A next process that does not get ready: the unit and its clients keep the old one, and `systemctl reload` says so.

use std::time::Duration;

use super::{
    reloads::{assert_nothing_lost, is_true, under_load},
    service::{Service, UNIT, Way},
};
use crate::support::{
    clients::Habit,
    looks::{Look, Looking},
    wait::eventually,
};

/// How long a handoff may take here: enough for one that succeeds.
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn a_successor_that_fails_leaves_the_old_process_and_the_reason_and_the_next_reload_succeeds() {
    check(Way::ExecReload);
}

/// systemd cannot learn that a reload has failed, so the status says it.
#[test]
fn with_notify_reload_a_successor_that_fails_leaves_the_old_process_and_the_reason_and_the_next_reload_succeeds() {
    check(Way::NotifyReload);
}

fn check(way: Way) {
    if !way.is_known() {
        return;
    }
    let service = Service::start(way, LIMIT);
    let old = service.main_pid();
    let looking = Looking::start(&service.systemd, UNIT);
    let outcome = under_load(&service, Habit::default(), |clients| {
        let fails_with = |reason: &str| {
            let reload = service.reload();
            let (state, status) = (service.property("ActiveState"), service.property("StatusText"));
            assert_eq!(reload.status.success(), way == Way::NotifyReload, "{reason}: {reload:?}");
            assert_eq!((state.as_str(), service.main_pid(), service.answering()), ("active", old, old));
            assert!(status.starts_with("serving: "), "{status}");
            assert!(status.contains("; the last handoff failed: ") && status.contains(reason), "{status}");
            assert!(service.log().contains(reason), "it is printed, too");
            clients.wait_for(100);
        };
        service.install("exit 1");
        fails_with("ended before it was ready");
        service.install("exec sleep 1000");
        fails_with("it was not ready within 5s (handoff_timeout)");
        service.install_this();
        service.plan("there is no database");
        fails_with("there is no database");
        service.plan("");
        fails_with("it was not ready within 5s (handoff_timeout)");
        service.forget_plan();

        let reload = service.reload();
        assert!(reload.status.success(), "{reload:?}\n{}", service.log());
        let status = service.property("StatusText");
        assert!(status.starts_with("serving: ") && !status.contains("failed"), "{status}");
    });
    let looks = looking.stop(&service.systemd);
    assert_nothing_lost(&outcome, &service);
    looks.assert_all(is_true);
    let new = service.main_pid();
    assert_eq!((looks.main_pids(), service.answering()), (vec![old, new], new), "{}", looks.story());
    assert!(looks.saw(|look| look.says(&["handing over: "])), "{}", looks.story());
    // What RELOADING=1 with MONOTONIC_USEC= leads to, which nothing else does.
    let is_notified = |look: &Look| look.active == "reloading" && look.sub == "reload-notify";
    assert_eq!(looks.saw(is_notified), way == Way::NotifyReload, "{}", looks.story());
    eventually("nothing is left of the others", || {
        let tasks = service.systemd.run(&["cat", &format!("/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs")]);
        tasks.lines().eq([new.to_string()])
    });
    for complaint in ["timed out", "left-over", "not our child", "reception only permitted", "Failed with result"] {
        assert!(!service.systemd.console().contains(complaint), "{}", service.systemd.console());
    }
}
