//! A successor that does not keep to the protocol: refused, killed, and nothing has changed.
//!
//! Needs Debian's package python3.

use rustix::process::Signal;

use super::roll_back::{rolls_back, under_load};
use crate::support::{
    http::Client,
    needs,
    service::{Service, Who},
    wait::eventually,
};

/// Before it is ready.
#[track_caller]
fn refused(peer: &str, says: &str) {
    refused_by("", peer, says);
}

/// When the time is over.
#[track_caller]
fn given_up(peer: &str) {
    refused_by("handoff_timeout=1000", peer, "it was not ready within 1s");
}

#[track_caller]
fn refused_by(settings: &str, peer: &str, says: &str) {
    needs::program("python3", "python3");
    let spoil = |service: &Service| service.plan("start", &format!("peer {peer}"));
    rolls_back(Service::start(settings), says, spoil, |_| {});
}

#[test]
fn one_that_stops_reading_is_killed_when_the_time_is_over() {
    given_up("stop join");
    given_up("stop offered");
}

#[test]
fn one_that_closes_the_control_socket_is_killed() {
    refused("closes join", "ended before it was ready");
    refused("closes offered", "ended before it was ready");
}

#[test]
fn one_that_fails_is_quoted() {
    refused("fail no room at the inn", "no room at the inn");
}

#[test]
fn one_that_leaves_before_it_is_ready_has_declined() {
    refused("leave offered", "it is stopping");
}

#[test]
fn one_of_another_version_is_refused() {
    refused("version 9 8", "version");
}

#[test]
fn one_that_sends_garbage_is_refused() {
    refused("malformed join", "message 37");
    refused("malformed offered", "message 37");
    refused("garbage offered", "a packet of one byte");
}

#[test]
fn one_that_sends_too_much_at_once_is_refused() {
    refused("long offered", "longer than 65536 bytes");
}

#[test]
fn one_that_answers_out_of_order_is_refused() {
    refused("order offered", "a `Commit`");
}

#[test]
fn one_that_floods_is_killed_when_the_time_is_over() {
    given_up("flood offered");
    given_up("descriptors offered");
}

#[test]
fn kinds_of_a_later_version_are_ignored() {
    needs::program("python3", "python3");
    under_load(Service::start(""), |service| {
        let old = service.who();
        service.plan("start", "peer unknown offered");
        service.ask_to_hand_over().expect("it is ready");
        service.wait_for(|line| line.text == "was understood");
        // It has died after that.
        assert_eq!(service.who(), old);
    });
}

/// It may serve, so the old one does not accept again as after its death; but it gets no connection.
#[track_caller]
fn left_alone(peer: &str) {
    needs::program("python3", "python3");
    let mut service = Service::start("");
    let old = service.who();
    let mut idle: Vec<_> = (0..8).map(|_| service.connect()).collect();
    idle.iter_mut().for_each(|idle| drop(idle.get("/who").unwrap()));
    service.plan("start", &format!("peer {peer}"));
    let peer = service.ask_to_hand_over().expect("it is ready");
    idle.iter_mut().for_each(|idle| ends_at(old, idle));
    let report = service.wait_for_word(old.pid, "ends ");
    assert!(report.contains(" 0 errors, 0 aborted"), "{report}");
    service.signal(peer, Signal::KILL);
    service.wait_for_all();
}

/// At once, or as soon as the old one knows that no connection can go to the new one.
fn ends_at(old: Who, idle: &mut Client) {
    eventually("it ends", || {
        let answer = idle.get("/who").unwrap();
        assert_eq!(answer.text().parse(), Ok(old));
        answer.says_close()
    });
}

#[test]
fn one_that_sends_garbage_after_the_commit_is_left_alone() {
    left_alone("malformed commit");
}

#[test]
fn one_that_closes_the_control_socket_after_the_commit_and_lives_on_is_left_alone() {
    left_alone("closes commit");
}

#[test]
fn one_that_refuses_every_connection_leaves_them_to_the_old_one() {
    left_alone("refuse 100");
}

#[test]
fn one_that_takes_no_connection_and_says_nothing_leaves_them_to_the_old_one() {
    left_alone("stop commit");
}
