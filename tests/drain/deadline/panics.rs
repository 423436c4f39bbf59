//! A handler that panics ends its own connection only; over HTTP/2, only its stream.

use super::{
    http2::connect,
    service::{Gate, gated},
};
use crate::support::running::{Running, connections};

#[test]
fn a_panic_ends_its_own_connection_and_counts_as_an_error() {
    let gate = Gate::closed();
    let running = Running::start(gated(&gate), |server| server);
    let mut other = running.connect();
    other.ask("/gate").unwrap();
    running.wait(|now| now.in_flight == 1);
    let mut client = running.connect();
    client.ask("/panic").unwrap();
    assert_eq!(client.rest().unwrap(), b"", "it ends without an answer, and without a reset");
    running.wait(|now| now.errors == 1 && now.in_flight == 1);
    gate.open();
    assert_eq!(other.answer().unwrap().text(), "passed");
    assert_eq!(other.get("/").unwrap().text(), "hello");
    drop(other);
    running.wait(|now| now.open == 0);
    let report = running.end();
    assert_eq!((connections(&report), report.stuck), ([1, 0, 1, 0], 0));
    assert_eq!(report.listeners[0].requests, 2, "what panicked was not answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_stream_resets_that_stream_and_no_other() {
    let gate = Gate::closed();
    let running = Running::start(gated(&gate), |server| server);
    let client = connect(running.addr).await;
    let other = client.ask("/gate").await;
    let error = client.ask("/panic").await.await.unwrap().unwrap_err();
    assert!(error.is_reset() && error.is_remote(), "{error}");
    running.wait(|now| now.in_flight == 1);
    running.start_drain();
    gate.open();
    assert_eq!(other.await.unwrap().unwrap(), "passed");
    client.ended().await.unwrap();
    let report = running.report();
    assert_eq!((connections(&report), report.stuck, report.listeners[0].requests), ([1, 0, 0, 0], 0, 1));
}
