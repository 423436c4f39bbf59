//! Heads of requests that come slowly, or not at all.

use std::time::Duration;

use super::service::{BIG, routes};
use crate::support::{
    http::Client,
    running::{Running, TICK, connections},
    wait::eventually,
};

const SHORT: Duration = Duration::from_millis(200);
const HALF: &str = "GET / HTTP/1.1\r\nHo";
const OTHER_HALF: &str = "st: test\r\n\r\n";

#[test]
fn a_client_that_stalls_within_its_headers_gets_408_and_counts_as_an_error() {
    let running = Running::start_paused(routes(), |server| server.header_timeout(SHORT));
    let mut first = running.connect();
    first.send(HALF).unwrap();
    let mut second = running.connect();
    assert_eq!(second.get("/").unwrap().text(), "hello");
    second.send(HALF).unwrap();
    wait_until_read(&[&first, &second]);
    running.advance(SHORT - TICK);
    assert!(first.is_silent() && second.is_silent(), "the time starts with the first byte of the request headers");
    running.advance(TICK);
    for mut client in [first, second] {
        let answer = client.answer().unwrap();
        assert_eq!((answer.status, answer.says_close()), (408, true));
        assert_eq!(client.rest().unwrap(), b"");
    }
    assert_eq!(connections(&running.end()), [0, 0, 2, 0]);
}

#[test]
fn half_of_what_http2_begins_with_is_a_head_too() {
    let running = Running::start(routes(), |server| server.header_timeout(SHORT));
    let mut client = running.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM").unwrap();
    assert_eq!(client.answer().unwrap().status, 408);
    assert_eq!(connections(&running.end()), [0, 0, 1, 0]);
}

#[test]
fn a_head_behind_a_response_that_is_still_being_sent_is_not_late() {
    let running = Running::start(routes(), |server| server.header_timeout(SHORT));
    let mut client = running.connect();
    client.ask("/big").unwrap();
    // It has all been given to the connection, and most of it cannot be sent.
    running.wait(|now| now.requests == 1);
    client.send(HALF).unwrap();
    // Another one is late meanwhile, more than once.
    for _ in 0..3 {
        let mut late = running.connect();
        late.send(HALF).unwrap();
        assert_eq!(late.answer().unwrap().status, 408);
    }
    assert_eq!(client.answer().unwrap().body.len(), BIG);
    // From here on it is.
    assert_eq!(client.answer().unwrap().status, 408);
    assert_eq!(connections(&running.end()), [0, 0, 4, 0]);
}

#[test]
fn half_a_head_at_the_drain_is_finished_and_answered() {
    let running = Running::start(routes(), |server| server.keep_alive_grace(Duration::ZERO));
    let mut fresh = running.connect();
    fresh.send(HALF).unwrap();
    let mut used = running.connect();
    assert_eq!(used.get("/").unwrap().text(), "hello");
    used.send(HALF).unwrap();
    wait_until_read(&[&fresh, &used]);
    running.start_drain();
    for mut client in [fresh, used] {
        client.send(OTHER_HALF).unwrap();
        let answer = client.answer().unwrap();
        assert_eq!((answer.text(), answer.says_close()), ("hello", true));
        assert_eq!(client.rest().unwrap(), b"");
    }
    assert_eq!(connections(&running.report()), [2, 0, 0, 0]);
}

#[test]
fn a_client_that_stalls_within_its_headers_during_the_drain_gets_408_if_there_is_time_and_is_aborted_else() {
    for (header_timeout, drain_timeout, ends) in
        [(SHORT, Duration::from_secs(30), [0, 0, 1, 0]), (Duration::from_secs(30), SHORT, [0, 0, 0, 1])]
    {
        let running = Running::start(routes(), |server| {
            server.header_timeout(header_timeout).drain_timeout(drain_timeout).keep_alive_grace(Duration::ZERO)
        });
        let mut client = running.connect();
        client.send(HALF).unwrap();
        wait_until_read(&[&client]);
        assert_eq!(connections(&running.end()), ends);
        assert_eq!(client.answer().is_ok_and(|answer| answer.status == 408), ends[2] == 1);
    }
}

/// Returns when the server has read all that was sent.
fn wait_until_read(clients: &[&Client]) {
    eventually("all is read", || clients.iter().all(|client| client.is_read()));
}

#[test]
fn a_client_that_resets_with_nothing_under_way_is_no_error() {
    let running = Running::start(routes(), |server| server);
    // As a TCP check of a load balancer does it, and one that asks first; before the server has read and after.
    running.connect().reset();
    let mut asked = running.connect();
    assert_eq!(asked.get("/").unwrap().text(), "hello");
    asked.reset();
    let fresh = running.connect();
    running.wait(|now| now.open == 1);
    fresh.reset();
    running.wait(|now| now.finished == 3);
    let report = running.end();
    assert_eq!((connections(&report), report.listeners[0].requests), ([3, 0, 0, 0], 1));
}

#[test]
fn a_client_that_resets_within_a_head_is_an_error() {
    let running = Running::start(routes(), |server| server);
    for started in ["P", HALF] {
        let mut client = running.connect();
        client.send(started).unwrap();
        wait_until_read(&[&client]);
        client.reset();
    }
    let mut client = running.connect();
    assert_eq!(client.get("/").unwrap().text(), "hello");
    client.send(HALF).unwrap();
    wait_until_read(&[&client]);
    client.reset();
    running.wait(|now| now.errors == 3);
    assert_eq!(connections(&running.end()), [0, 0, 3, 0]);
}
