//! Generations that still drain when the next handoff comes.

use std::{io::ErrorKind, thread};

use rustix::process::Signal;

use crate::support::{
    http::Client,
    service::{Line, Service, Who, assert_moves},
};

/// No drain ends at its deadline while a test waits for something else.
const LONG: &str = "drain_timeout=600000";

/// A request that its generation holds until the gate of that name is opened.
fn held(service: &Service, gate: &str, id: u64) -> Client {
    service.gate(gate);
    let mut client = service.connect();
    client.ask(&format!("/slow/{gate}/{id}")).unwrap();
    service.wait_for(|line| line.text == format!("holds {gate}"));
    client
}

/// Fails unless the connection ends without an answer.
#[track_caller]
fn assert_aborted(client: &mut Client) {
    let ended = client.answer().expect_err("no answer");
    assert!(matches!(ended.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{ended}");
}

/// Fails where a generation has aborted a connection.
#[track_caller]
fn assert_none_aborted(lines: &[Line]) {
    let reports: Vec<_> = lines.iter().filter(|line| line.text.starts_with("ends ")).collect();
    assert!(reports.iter().all(|report| report.text.contains(" 0 errors, 0 aborted")), "{reports:#?}");
}

#[test]
fn two_generations_may_drain_and_a_third_hand_over_waits_until_one_has_ended() {
    let service = Service::start(LONG);
    let first = service.who();
    let mut oldest = held(&service, "first", 1);
    let second = service.hand_over();
    let mut older = held(&service, "second", 2);
    let third = service.hand_over();
    let mut old = held(&service, "third", 3);
    assert_eq!(service.running(), [first.pid, second.pid, third.pid], "two may drain");

    let fourth = thread::scope(|scope| {
        let asked = scope.spawn(|| service.ask_to_hand_over());
        service.wait_for_log("as many generations drain as may");
        assert_eq!((service.who(), service.pids().len()), (third, 3), "it waits before it starts a process");
        service.open("first");
        assert_eq!(oldest.answer().unwrap().text(), "1");
        asked.join().unwrap().unwrap()
    });
    service.wait_for_end(first.pid);
    let fourth = Who { generation: 3, pid: fourth };
    assert_moves(&mut oldest, fourth);
    assert_eq!(service.running(), [second.pid, third.pid, fourth.pid]);
    for (gate, client, id) in [("second", &mut older, "2"), ("third", &mut old, "3")] {
        service.open(gate);
        assert_eq!(client.answer().unwrap().text(), id);
        assert_moves(client, fourth);
    }
    service.wait_for_word(fourth.pid, "is alone");
    assert_none_aborted(&service.end().0);
}

#[test]
fn a_hand_over_is_refused_while_as_many_generations_drain_as_may_and_none_is_aborted() {
    for (most, reason) in [(2, "2 older generations still drain"), (1, "1 older generation still drains")] {
        let service = Service::start(&format!("max_draining={most} handoff_timeout=3000 {LONG}"));
        let gates = ["first", "second"];
        let mut waiting: Vec<_> = (1..)
            .zip(&gates[..most])
            .map(|(id, gate)| {
                let client = held(&service, gate, id);
                service.hand_over();
                client
            })
            .collect();
        let serving = service.who();
        let error = service.ask_to_hand_over().unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert_eq!((service.who(), service.pids().len()), (serving, most + 1), "none was started");
        for (gate, client) in gates.iter().zip(&mut waiting) {
            service.open(gate);
            assert_eq!(client.answer().unwrap().status, 200);
        }
        service.hand_over();
        assert_none_aborted(&service.end().0);
    }
}

#[test]
fn a_stop_while_a_hand_over_waits_for_an_older_generation_wins() {
    let mut service = Service::start(&format!("max_draining=1 {LONG}"));
    let first = service.who();
    let mut oldest = held(&service, "first", 1);
    let second = service.hand_over();
    service.signal(second.pid, Signal::HUP);
    service.wait_for_log("as many generations drain as may");
    service.signal(second.pid, Signal::TERM);
    service.wait_for_word(second.pid, "ends ");
    service.open("first");
    assert_eq!(oldest.answer().unwrap().text(), "1");
    service.wait_for_word(first.pid, "ends ");
    service.wait_for_all();
}

#[test]
fn a_drain_that_takes_too_long_is_aborted_at_its_own_deadline() {
    let service = Service::start("drain_timeout=300");
    let first = service.who();
    let mut aborted = held(&service, "first", 1);
    let second = service.hand_over();
    assert_aborted(&mut aborted);
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
    service.signal(second.pid, Signal::KILL);
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
