//! What a process gives to the next besides its sockets.

use crate::support::service::Service;

#[test]
fn a_state_of_ten_million_bytes_arrives_as_it_was() {
    let service = Service::start("state=10000000");
    let new = service.hand_over();
    assert_eq!(service.wait_for_word(new.pid, "imports "), "10000000 version 7");
    service.end();
}

#[test]
fn an_empty_state_and_one_around_the_length_of_a_packet_arrive_as_they_were() {
    for size in [0, 4096, 4097, 65536] {
        let service = Service::start(&format!("state={size}"));
        let new = service.hand_over();
        assert_eq!(service.wait_for_word(new.pid, "imports "), format!("{size} version 7"));
        service.end();
    }
}

#[test]
fn the_final_state_holds_what_was_done_after_the_commit() {
    let service = Service::start("");
    service.gate("gate");
    let mut held = service.connect();
    held.ask("/slow/gate/1").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    assert_eq!(service.get("/2"), "2");
    let new = service.hand_over();
    assert_eq!(service.get("/count"), "0", "it is not final yet");
    assert_eq!(service.get("/3"), "3");
    service.open("gate");
    assert_eq!(held.answer().unwrap().text(), "1");
    service.wait_for_word(new.pid, "has the final state");
    assert_eq!(service.get("/count"), "3");
    let next = service.hand_over();
    service.wait_for_word(next.pid, "is alone");
    assert_eq!(service.get("/count"), "3");
    service.end();
}

#[test]
fn a_final_state_that_cannot_be_given_or_taken_changes_nothing_else() {
    for step in ["export-final", "import-final"] {
        let service = Service::start("");
        let old = service.who();
        assert_eq!(service.get("/1"), "1");
        service.plan(step, "fail a bad day");
        let new = service.hand_over();
        service.wait_for_word(new.pid, "is alone");
        service.wait_for_word(old.pid, "ends ");
        assert_eq!(service.get("/count"), "0");
        assert!(service.log().contains("a bad day"), "{}", service.log());
        service.hand_over();
        service.end();
    }
}

#[test]
fn a_final_state_that_panics_or_never_comes_changes_nothing_else() {
    for (step, words) in [
        ("export-final", "panic"),
        ("import-final", "panic"),
        ("export-final", "unprintable"),
        ("import-final", "unprintable"),
        ("export-final", "hang"),
    ] {
        let service = Service::start("handoff_timeout=2000");
        let old = service.who();
        service.plan(step, words);
        let new = service.hand_over();
        service.wait_for_word(new.pid, "is alone");
        service.wait_for_word(old.pid, "ends ");
        service.hand_over();
        service.end();
    }
}
