//! Generations that still drain when the next hand-over comes.

use std::io::ErrorKind;

use super::support::{
    service::{Service, assert_moves},
    wire::Wire,
};

/// No drain ends at its deadline while a test waits for something else.
const LONG: &str = "drain_timeout=600000";

/// A request that its generation holds until the gate of that name is opened.
fn held(service: &Service, gate: &str, id: u64) -> Wire {
    service.gate(gate);
    let mut wire = service.connect();
    wire.ask(&format!("/slow/{gate}/{id}")).unwrap();
    service.wait_for(|line| line.text == format!("holds {gate}"));
    wire
}

/// Fails unless the connection ends without an answer.
#[track_caller]
fn assert_cut(wire: &mut Wire) {
    let ended = wire.answer().expect_err("no answer");
    assert!(matches!(ended.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{ended}");
}

#[test]
fn two_generations_may_drain_and_then_the_oldest_is_cut_and_only_that() {
    let service = Service::start(LONG);
    let first = service.who();
    let mut cut = held(&service, "first", 1);
    let second = service.hand_over();
    let mut kept = held(&service, "second", 2);
    let third = service.hand_over();
    let mut also_kept = held(&service, "third", 3);
    assert_eq!(service.running(), [first.pid, second.pid, third.pid], "two may drain");

    let fourth = service.hand_over();
    assert_cut(&mut cut);
    let report = service.wait_for_word(first.pid, "ends ");
    assert!(report.contains(" 1 cut"), "{report}");
    service.wait_for_end(first.pid);
    assert_eq!(service.running(), [second.pid, third.pid, fourth.pid]);
    for (gate, wire, id, process) in [("second", &mut kept, "2", second), ("third", &mut also_kept, "3", third)] {
        service.open(gate);
        assert_eq!(wire.answer().unwrap().text(), id);
        let report = service.wait_for_word(process.pid, "ends ");
        assert!(report.contains(" 0 cut"), "{report}");
        assert_moves(wire, fourth);
    }
    service.wait_for_word(fourth.pid, "is alone");
    service.end();
}

#[test]
fn where_no_generation_may_drain_the_last_is_cut_as_the_next_begins() {
    let service = Service::start(&format!("draining_generations=1 {LONG}"));
    let first = service.who();
    let mut cut = held(&service, "first", 1);
    service.hand_over();
    let mut kept = held(&service, "second", 2);
    let third = service.hand_over();
    assert_cut(&mut cut);
    service.wait_for_end(first.pid);
    service.open("second");
    assert_eq!(kept.answer().unwrap().text(), "2");
    assert_moves(&mut kept, third);
    service.end();
}

#[test]
fn a_drain_that_takes_too_long_is_cut_at_its_own_deadline() {
    let service = Service::start("drain_timeout=300");
    let first = service.who();
    let mut cut = held(&service, "first", 1);
    let second = service.hand_over();
    assert_cut(&mut cut);
    service.wait_for_end(first.pid);
    service.wait_for_word(second.pid, "has the final state");
    service.wait_for_word(second.pid, "is alone");
    service.end();
}

#[test]
fn a_successor_that_dies_while_the_old_one_drains_gives_the_service_back() {
    let service = Service::start("");
    let first = service.who();
    let mut slow = held(&service, "first", 1);
    let mut moved: Vec<_> = (0..16).map(|_| service.connect()).collect();
    moved.iter_mut().for_each(|moved| drop(moved.get("/who").unwrap()));
    let second = service.hand_over();
    for moved in &mut moved {
        assert_moves(moved, second);
    }
    service.signal(second.pid, rustix::process::Signal::KILL);
    assert_eq!(service.who(), first, "it accepts again");
    for moved in &mut moved {
        assert!(moved.get("/who").is_err(), "what the successor had died with it");
    }
    let third = service.hand_over();
    assert_eq!(third.generation, 1);
    service.open("first");
    assert_eq!(slow.answer().unwrap().text(), "1", "a request from before all that");
    assert_moves(&mut slow, third);
    service.wait_for_end(first.pid);
    service.end().1.assert_none_twice();
}
