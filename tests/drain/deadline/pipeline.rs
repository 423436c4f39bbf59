//! Clients that send the next request before they have the answer to the last.

use super::service::{Gate, gated};
use crate::support::running::{Running, connections};

#[test]
fn what_is_answered_after_the_drain_began_says_close_and_nothing_after_it_is_answered() {
    let gate = Gate::closed();
    let running = Running::start(gated(&gate), |server| server);
    let mut client = running.connect();
    client.send(requests(&["/", "/", "/gate", "/", "/gate"])).unwrap();
    for _ in 0..2 {
        let answer = client.answer().unwrap();
        assert_eq!((answer.text(), answer.says_close()), ("hello", false));
    }
    running.wait(|now| now.in_flight == 1);
    running.start_drain();
    gate.open();
    let answer = client.answer().unwrap();
    assert_eq!((answer.text(), answer.says_close()), ("passed", true));
    assert_eq!(client.rest().unwrap(), b"", "what follows was not processed, and may be sent again");
    let report = running.report();
    assert_eq!((connections(&report), report.listeners[0].requests), ([1, 0, 0, 0], 3));
}

#[test]
fn what_was_pipelined_before_the_drain_is_answered_in_order() {
    let gate = Gate::closed();
    let running = Running::start(gated(&gate), |server| server);
    let mut client = running.connect();
    client.send(requests(&["/", "/gate", "/", "/gate", "/"])).unwrap();
    gate.open();
    gate.open();
    let answers: Vec<_> = (0..5).map(|_| client.answer().unwrap().text().to_owned()).collect();
    assert_eq!(answers, ["hello", "passed", "hello", "passed", "hello"]);
    running.start_drain();
    let last = client.get("/").unwrap();
    assert!(last.says_close());
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(running.report().listeners[0].requests, 6);
}

fn requests(paths: &[&str]) -> String {
    paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).collect()
}
