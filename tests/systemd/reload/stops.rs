//! A stop or a restart that comes in the middle of a handoff, or right after one.

use super::{
    reloads::{LONG, is_true},
    service::{Service, UNIT, Way},
};
use crate::support::{
    looks::{Look, Looking},
    wait::eventually,
};

#[test]
fn a_stop_ends_a_hand_over_that_is_under_way_and_what_is_in_flight_is_answered() {
    check_stop(Way::ExecReload);
}

#[test]
fn with_notify_reload_a_stop_ends_a_hand_over_that_is_under_way_and_what_is_in_flight_is_answered() {
    check_stop(Way::NotifyReload);
}

fn check_stop(way: Way) {
    if !way.is_known() {
        return;
    }
    let service = Service::start(way, LONG);
    let old = service.main_pid();
    let looking = Looking::start(&service.systemd, UNIT);
    let mut slow = service.ask_slowly(3000);
    service.plan("");
    let reload = service.systemd.command(&["systemctl", "reload", UNIT]).spawn().unwrap();
    eventually("it hands over", || service.property("StatusText").starts_with("handing over: "));

    service.systemd.run(&["systemctl", "stop", UNIT]);
    assert_eq!(slow.answer().unwrap().text(), "3000");
    assert!(!reload.wait_with_output().unwrap().status.success(), "it has not reloaded");
    let looks = looking.stop(&service.systemd);
    looks.assert_all(is_true);
    assert_eq!(looks.main_pids(), [old, 0], "{}", looks.story());
    let is_drained = |look: &Look| look.active == "inactive" && look.says(&["drained in "]);
    assert!(is_drained(looks.0.last().unwrap()), "{}", looks.story());
    assert_eq!(service.property("Result"), "success");
    service.assert_no_complaint();

    service.forget_plan();
    assert_ne!(service.answering(), old, "the next connection starts it again");
}

#[test]
fn a_restart_right_after_a_reload_lets_both_processes_answer_what_they_have() {
    check_restart(Way::ExecReload);
}

#[test]
fn with_notify_reload_a_restart_right_after_a_reload_lets_both_processes_answer_what_they_have() {
    check_restart(Way::NotifyReload);
}

fn check_restart(way: Way) {
    if !way.is_known() {
        return;
    }
    let service = Service::start(way, LONG);
    let old = service.main_pid();
    let looking = Looking::start(&service.systemd, UNIT);
    let mut longest = service.ask_slowly(8000);
    assert!(service.reload().status.success(), "{}", service.log());
    let new = service.main_pid();
    let mut shorter = service.ask_slowly(3000);
    assert!(service.lives(old), "it still drains");

    service.systemd.run(&["systemctl", "restart", UNIT]);
    assert_eq!(shorter.answer().unwrap().text(), "3000");
    assert_eq!(longest.answer().unwrap().text(), "8000", "{}", service.log());
    let newest = service.main_pid();
    assert_eq!(service.answering(), newest);
    assert!(!service.lives(old) && !service.lives(new));
    let looks = looking.stop(&service.systemd);
    looks.assert_all(is_true);
    let mut pids = looks.main_pids();
    pids.retain(|pid| *pid > 0);
    assert_eq!(pids, [old, new, newest], "{}", looks.story());
    service.assert_no_complaint();
}
