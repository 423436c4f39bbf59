//! Responses arrive, whatever becomes of the request's body; and clients that go away in the middle.

use std::time::Duration;

use super::service::{BIG, Gate, gated, routes};
use crate::support::running::{Running, connections};

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn the_response_to_a_large_body_that_is_not_read_arrives_whole() {
    let running = Running::start(routes(), |server| server);
    let mut client = running.connect();
    let head = "POST /reject HTTP/1.1\r\nHost: test\r\nContent-Length: 8000000\r\n\r\n";
    client.send(head).unwrap();
    // More than fits between the two: the server has to read it, or the client never gets to the response.
    client.send(vec![b'x'; 8_000_000]).unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.body.len()), (413, 200_000));
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(connections(&running.end())[2..], [0, 0]);
}

#[test]
fn the_last_response_of_a_drain_arrives_though_the_client_sends_on() {
    let gate = Gate::closed();
    let running = Running::start(gated(&gate), |server| server);
    let mut client = running.connect();
    client.ask("/gate").unwrap();
    running.wait(|now| now.in_flight == 1);
    running.start_drain();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(10_000)).unwrap();
    gate.open();
    let answer = client.answer().unwrap();
    assert_eq!((answer.text(), answer.says_close()), ("passed", true));
    assert_eq!(client.rest().unwrap(), b"", "nothing is answered after it, and there is no reset");
    assert_eq!(connections(&running.report()), [1, 0, 0, 0]);
}

#[test]
fn a_client_that_has_its_last_response_and_does_not_close_is_not_aborted() {
    let running = Running::start_paused(routes(), |server| server.drain_timeout(SHORT));
    let mut client = running.connect();
    running.wait(|now| now.open == 1);
    running.start_drain();
    assert!(client.get("/").unwrap().says_close());
    // It is waited for, but not for longer than there is time.
    let report = running.ended_after(SHORT);
    assert_eq!(connections(&report), [1, 0, 0, 0]);
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn a_slow_reader_is_not_idle() {
    let running = Running::start(routes(), |server| server.idle_timeout(SHORT));
    let mut slow = running.connect();
    slow.ask("/big").unwrap();
    running.wait(|now| now.requests == 1);
    // Others come and go, idle for as long as they may.
    for _ in 0..3 {
        assert_eq!(running.connect().rest().unwrap(), b"");
    }
    let answer = slow.answer().unwrap();
    assert_eq!(answer.body.len(), BIG);
    assert_eq!(slow.rest().unwrap(), b"");
    assert_eq!(connections(&running.end()), [0, 4, 0, 0]);
}

#[test]
fn a_client_that_resets_in_the_middle_of_a_request_is_an_error_and_concerns_no_other() {
    let gate = Gate::closed();
    let running = Running::start(gated(&gate), |server| server);
    let mut other = running.connect();
    other.ask("/gate").unwrap();
    let mut client = running.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf of it").unwrap();
    running.wait(|now| now.in_flight == 2);
    client.reset();
    running.wait(|now| now.errors == 1 && now.in_flight == 1);
    running.start_drain();
    gate.open();
    assert_eq!(other.answer().unwrap().text(), "passed");
    drop(other);
    assert_eq!(connections(&running.report()), [1, 0, 1, 0]);
}

#[test]
fn who_resets_in_the_middle_of_a_response_or_of_the_drain_is_an_error_too() {
    for drains in [false, true] {
        let running = Running::start(routes(), |server| server);
        let mut client = running.connect();
        client.ask("/endless").unwrap();
        client.headers().unwrap();
        if drains {
            running.start_drain();
        }
        client.reset();
        running.wait(|now| now.open == 0);
        assert_eq!(connections(&running.end()), [0, 0, 1, 0]);
    }
}

#[test]
fn a_client_that_is_slow_to_send_what_is_not_read_still_gets_the_response() {
    let running = Running::start_paused(routes(), |server| server);
    let mut client = running.connect();
    client.send("POST /reject HTTP/1.1\r\nHost: test\r\nContent-Length: 8000000\r\n\r\n").unwrap();
    // For twice as long as it may be silent.
    for _ in 0..20 {
        running.advance(Duration::from_millis(100));
        client.send(vec![b'x'; 400_000]).unwrap();
    }
    assert_eq!(client.answer().unwrap().body.len(), 200_000);
    drop(client);
    assert_eq!(connections(&running.end())[2..], [0, 0]);
}
