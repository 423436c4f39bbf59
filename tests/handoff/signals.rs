//! Signals in quick succession, and while a hand-over is under way.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{roll_back::under_load, support::service::Service};

#[test]
fn of_30_hang_ups_in_a_second_each_is_a_hand_over_or_refused_and_nothing_is_left_over() {
    under_load(Service::start(""), |service| {
        let began = Instant::now();
        for turn in 1..=30 {
            service.signal(service.who().pid, Signal::HUP);
            thread::sleep((began + turn * Duration::from_millis(33)).saturating_duration_since(Instant::now()));
        }
        // When another hand-over succeeds, none is under way.
        while service.ask_to_hand_over().is_err() {}
        let last = service.who();
        service.wait_for_word(last.pid, "is alone");
        for pid in service.pids().into_iter().filter(|pid| *pid != last.pid) {
            service.wait_for_end(pid);
        }
        let started = service.lines().iter().filter(|line| line.text == "starts").count() as u64;
        assert_eq!(started, last.generation + 1, "each that was started has served");
        assert!(service.lines().iter().all(|line| !line.text.starts_with("fail")), "{:#?}", service.lines());
    });
}

#[test]
fn a_hand_over_while_one_is_under_way_is_refused() {
    under_load(Service::start(""), |service| {
        service.gate("import.gate");
        service.plan("import", "wait");
        thread::scope(|scope| {
            let first = scope.spawn(|| service.ask_to_hand_over());
            service.wait_for(|line| line.text == "at import wait");
            let reason = service.ask_to_hand_over().unwrap_err();
            assert!(reason.contains("another hand-over is under way"), "{reason}");
            service.open("import.gate");
            first.join().unwrap().unwrap();
        });
    });
}

/// Nothing is left running, whatever the new one was about to do.
#[track_caller]
fn stopped(step: &str, words: &str) {
    let mut service = Service::start("");
    let old = service.who();
    service.plan(step, words);
    thread::scope(|scope| {
        let asked = scope.spawn(|| service.ask_to_hand_over());
        let new = service.wait_for(|line| line.text == format!("at {step} {words}")).pid;
        service.signal(old.pid, Signal::TERM);
        let reason = asked.join().unwrap().unwrap_err();
        assert!(reason.contains("told to stop"), "{reason}");
        service.wait_for_end(new);
    });
    let report = service.wait_for_word(old.pid, "ends ");
    assert!(report.contains(" 0 errors, 0 cut"), "{report}");
    // Standard output, which all of them share, has come to its end.
    service.wait_for_all();
    assert_eq!(service.running(), Vec::<u32>::new());
}

#[test]
fn a_stop_in_the_middle_of_a_hand_over_wins() {
    stopped("start", "hang");
    stopped("import", "hang");
    stopped("ready", "hang");
}

#[test]
fn a_stop_of_the_old_one_after_the_commit_leaves_the_new_one_serving() {
    let service = Service::start("");
    service.gate("gate");
    let mut held = service.connect();
    held.ask("/slow/gate/1").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    let old = service.who();
    let new = service.hand_over();
    service.signal(old.pid, Signal::TERM);
    assert_eq!(service.who(), new);
    service.open("gate");
    assert_eq!(held.answer().unwrap().text(), "1");
    service.wait_for_end(old.pid);
    service.wait_for_word(new.pid, "is alone");
    service.hand_over();
    service.end();
}

#[test]
fn a_stop_of_the_new_one_while_the_old_one_drains_ends_both() {
    let mut service = Service::start("");
    service.gate("gate");
    let mut held = service.connect();
    held.ask("/slow/gate/1").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    let old = service.who();
    let new = service.hand_over();
    service.signal(new.pid, Signal::TERM);
    service.wait_for_word(new.pid, "ends ");
    service.open("gate");
    assert_eq!(held.answer().unwrap().text(), "1", "the old one finishes what it has");
    service.wait_for_word(old.pid, "ends ");
    service.wait_for_all();
    assert_eq!(service.running(), Vec::<u32>::new());
}
