//! The limits of connections, with short times.

use std::time::Duration;

use super::{
    http2::connect,
    service::{Gate, gated, routes},
};
use crate::support::running::{Running, connections};

const SHORT: Duration = Duration::from_millis(200);
const STEP: Duration = Duration::from_millis(10);

#[test]
fn one_connection_too_many_waits_until_another_ends() {
    let running = Running::start(routes(), |server| server.max_connections(2));
    let mut clients = [running.connect(), running.connect()];
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").unwrap().text(), "hello"));
    let mut third = running.connect();
    third.ask("/").unwrap();
    // The others are served on, it is not.
    for _ in 0..100 {
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").unwrap().text(), "hello"));
    }
    assert_eq!(running.now().accepted, 2);
    let [first, mut second] = clients;
    drop(first);
    assert_eq!(third.answer().unwrap().text(), "hello");
    assert_eq!(second.get("/").unwrap().text(), "hello");
    drop((second, third));
    running.wait(|now| now.open == 0);
    assert_eq!(connections(&running.end()), [3, 0, 0, 0]);
}

#[test]
fn who_is_idle_for_too_long_is_closed_and_who_is_busy_is_not() {
    let gate = Gate::closed();
    let running = Running::start_paused(gated(&gate), |server| server.idle_timeout(SHORT));
    let mut busy = running.connect();
    busy.ask("/gate").unwrap();
    let fresh = running.connect();
    let mut used = running.connect();
    assert_eq!(used.get("/").unwrap().text(), "hello");
    running.wait(|now| now.open == 3);
    let passed = running.advance_by_steps(STEP, || !fresh.is_silent() || !used.is_silent());
    assert!(passed >= SHORT, "{passed:?}");
    running.advance_by_steps(STEP, || !fresh.is_silent() && !used.is_silent());
    for mut idle in [fresh, used] {
        assert_eq!(idle.rest().unwrap(), b"");
    }
    running.wait(|now| now.open == 1 && now.idle_closed == 2);
    gate.open();
    assert_eq!(busy.answer().unwrap().text(), "passed");
    running.advance_by_steps(STEP, || !busy.is_silent());
    assert_eq!(busy.rest().unwrap(), b"");
    drop(busy);
    assert_eq!(connections(&running.end()), [0, 3, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_http2_that_is_idle_for_too_long_gets_a_goaway() {
    let running = Running::start(routes(), |server| server.idle_timeout(SHORT));
    let client = connect(running.addr).await;
    assert_eq!(client.ask("/").await.await.unwrap().unwrap(), "hello");
    // Only the server can end it: the client keeps it.
    running.wait(|now| now.open == 0);
    client.ended().await.unwrap();
    assert_eq!(connections(&running.end()), [0, 1, 0, 0]);
}

#[test]
fn a_connection_that_is_old_enough_gets_close_with_its_next_answer() {
    let running = Running::start_paused(routes(), |server| server.max_connection_age(SHORT, SHORT));
    let mut client = running.connect();
    let passed = running.advance_by_steps(STEP, || client.get("/").unwrap().says_close());
    assert!(passed >= SHORT, "{passed:?}");
    assert_eq!(client.rest().unwrap(), b"");
    drop(client);
    running.wait(|now| now.open == 0);
    assert_eq!(connections(&running.end()), [1, 0, 0, 0]);
}

#[test]
fn an_old_idle_connection_is_closed_after_the_grace() {
    let running = Running::start_paused(routes(), |server| {
        server.max_connection_age(SHORT, Duration::ZERO).keep_alive_grace(SHORT)
    });
    let mut client = running.connect();
    running.wait(|now| now.open == 1);
    let passed = running.advance_by_steps(STEP, || !client.is_silent());
    assert!(passed >= SHORT * 2, "{passed:?}");
    assert_eq!(client.rest().unwrap(), b"");
    drop(client);
    assert_eq!(connections(&running.end()), [0, 1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_http2_that_is_old_enough_gets_a_goaway_and_its_streams_finish() {
    let gate = Gate::closed();
    let running = Running::start_paused(gated(&gate), |server| server.max_connection_age(SHORT, Duration::ZERO));
    let client = connect(running.addr).await;
    let answer = client.ask("/gate").await;
    running.wait(|now| now.in_flight == 1);
    let other = connect(running.addr).await;
    running.wait(|now| now.open == 2);
    running.advance_by_steps(STEP, || running.now().finished == 1);
    other.ended().await.unwrap();
    gate.open();
    assert_eq!(answer.await.unwrap().unwrap(), "passed");
    client.ended().await.unwrap();
    assert_eq!(connections(&running.end()), [2, 0, 0, 0]);
}
