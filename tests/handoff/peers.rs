//! A successor that does not keep to the protocol: refused, killed, and nothing has changed.
//!
//! Needs Debian's package python3.

use super::{
    roll_back::{rolls_back, under_load},
    support::{needs, service::Service},
};

/// Before it is ready.
#[track_caller]
fn refused(peer: &str, says: &str) {
    needs::program("python3", "python3");
    let spoil = |service: &Service| service.plan("start", &format!("peer {peer}"));
    rolls_back(Service::start("handoff_timeout=1000"), says, spoil, |_| {});
}

#[test]
fn one_that_stops_reading_is_killed_when_the_time_is_over() {
    refused("stop join", "it was not ready within 1s");
    refused("stop offered", "it was not ready within 1s");
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
    refused("flood offered", "it was not ready within 1s");
    refused("descriptors offered", "it was not ready within 1s");
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

/// After the commit: the old one accepts again, and has every connection that was not taken.
#[track_caller]
fn given_up(peer: &str) {
    needs::program("python3", "python3");
    under_load(Service::start(""), |service| {
        let old = service.who();
        service.plan("start", &format!("peer {peer}"));
        let peer = service.ask_to_hand_over().expect("it is ready");
        service.wait_for_word(peer, "stops at commit");
        assert_eq!(service.who(), old, "it accepts again");
    });
}

#[test]
fn one_that_sends_garbage_after_the_commit_is_given_up() {
    given_up("malformed commit");
}

#[test]
fn one_that_closes_the_control_socket_after_the_commit_is_given_up() {
    given_up("closes commit");
}
