//! `kill -9` of the new process at every step: no client loses anything that the new one had not said it has.
//!
//! Needs Debian's package python3.

use std::thread;

use rustix::process::Signal;

use super::roll_back::{rolls_back, under_load};
use crate::support::{
    clients::{Clients, Habit},
    needs,
    service::Service,
};

#[track_caller]
fn killed_before_it_is_ready(step: &str) {
    needs::program("python3", "python3");
    let says = "ended before it was ready";
    rolls_back(Service::start(""), says, |service| service.plan("start", &format!("peer die_at {step}")), |_| {});
}

#[test]
fn at_its_start() {
    rolls_back(Service::start(""), "ended before it was ready", |service| service.plan("start", "kill self"), |_| {});
}

#[test]
fn after_it_has_joined() {
    killed_before_it_is_ready("join");
}

#[test]
fn after_it_has_its_listeners() {
    killed_before_it_is_ready("listeners");
}

#[test]
fn after_it_was_offered_everything() {
    killed_before_it_is_ready("offered");
}

#[test]
fn while_it_imports_the_state() {
    rolls_back(Service::start(""), "ended before it was ready", |service| service.plan("import", "kill self"), |_| {});
}

#[test]
fn while_it_gets_ready() {
    rolls_back(Service::start(""), "ended before it was ready", |service| service.plan("ready", "kill self"), |_| {});
}

/// The old one may have committed before it hears of the end, or not.
#[test]
fn as_soon_as_it_is_ready() {
    needs::program("python3", "python3");
    under_load(Service::start(""), |service| {
        let old = service.who();
        service.plan("start", "peer die_at ready");
        let handed_over = service.ask_to_hand_over();
        assert!(handed_over.is_ok() || handed_over.unwrap_err().contains("ended before it was ready"));
        assert_eq!(service.who(), old);
        service.hand_over();
    });
}

#[test]
fn right_after_the_commit() {
    needs::program("python3", "python3");
    under_load(Service::start(""), |service| {
        let old = service.who();
        service.plan("start", "peer die_at commit");
        service.ask_to_hand_over().unwrap();
        assert_eq!(service.who(), old);
        service.hand_over();
    });
}

#[test]
fn when_it_has_connections_and_has_not_taken_them() {
    needs::program("python3", "python3");
    under_load(Service::start(""), |service| {
        let old = service.who();
        service.plan("start", "peer take 3 0");
        let new = service.ask_to_hand_over().unwrap();
        service.wait_for_word(new, "has taken 0 of 3 connections");
        assert_eq!(service.who(), old);
        service.hand_over();
    });
}

#[test]
fn when_it_has_taken_some_connections_only_those_are_closed() {
    needs::program("python3", "python3");
    let service = Service::start("");
    let mut idle: Vec<_> = (0..300).map(|_| service.connect()).collect();
    idle.iter_mut().for_each(|idle| drop(idle.get("/who").unwrap()));
    let old = service.who();
    service.plan("start", "peer take 40 1");
    let new = service.ask_to_hand_over().unwrap();
    let line = service.wait_for(|line| line.pid == new && line.text.starts_with("has taken "));
    let taken: usize = line.word(2);
    service.wait_for_end(new);
    assert_eq!(service.who(), old);
    let closed = idle.iter_mut().filter_map(|idle| idle.get("/who").err()).count();
    // Among them may have been the one or other that only asked for the handoff.
    assert!(closed <= taken && taken <= closed + 5, "{closed} are closed, {taken} were taken");
    service.hand_over();
    let served_on = idle.iter_mut().filter_map(|idle| idle.get("/who").ok()).count();
    assert_eq!(served_on, 300 - closed);
    service.end();
}

/// A process of the service itself, at any moment while connections move and requests are answered.
#[test]
fn in_the_middle_of_the_moves_no_request_is_processed_twice_and_the_old_one_accepts_again() {
    for delay in 0..8 {
        let service = Service::start("");
        // Held by a request, the old one drains until that is answered.
        service.gate("gate");
        let mut held = service.connect();
        held.ask("/slow/gate/1000000").unwrap();
        service.wait_for(|line| line.text == "holds gate");
        let clients = Clients::new(service.addr, Habit { posts: true, ..Habit::default() });
        let old = service.who();
        thread::scope(|scope| {
            let _stop = clients.stop_on_drop();
            (0..32).for_each(|_| drop(scope.spawn(|| clients.run())));
            clients.wait_for(200);
            let new = service.ask_to_hand_over().unwrap();
            clients.wait_for(16 * delay);
            service.signal(new, Signal::KILL);
            service.wait_for_end(new);
        });
        assert_eq!(service.who(), old, "it accepts again");
        // Who had been moved sees the end of his connection, without a word; no client sees half an answer.
        let outcome = clients.outcome().clone();
        let is_end = |lost: &String| lost.ends_with("closed without an answer") || lost.contains("os error");
        assert!(outcome.lost.iter().all(is_end), "{outcome:#?}");
        assert!(outcome.lost.len() <= 32, "{outcome:#?}");
        service.open("gate");
        assert_eq!(held.answer().unwrap().text(), "1000000", "the old one still has it");
        service.hand_over();
        service.processed().assert_none_twice();
        service.end();
    }
}
