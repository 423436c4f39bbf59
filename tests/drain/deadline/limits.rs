//! The limits of connections, with short times.

use std::time::{Duration, Instant};

use super::{
    http2::connect,
    service::{Gate, gated, routes},
};
use crate::support::running::{Running, connections};

const SHORT: Duration = Duration::from_millis(200);

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
    let running = Running::start(gated(&gate), |server| server.idle_timeout(SHORT));
    let mut busy = running.connect();
    busy.ask("/gate").unwrap();
    let fresh = running.connect();
    let mut used = running.connect();
    let began = Instant::now();
    assert_eq!(used.get("/").unwrap().text(), "hello");
    for mut idle in [fresh, used] {
        assert_eq!(idle.rest().unwrap(), b"");
    }
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    running.wait(|now| now.open == 1 && now.idle_closed == 2);
    gate.open();
    assert_eq!(busy.answer().unwrap().text(), "passed");
    assert_eq!(busy.rest().unwrap(), b"");
    assert_eq!(connections(&running.end()), [0, 3, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_idle_for_too_long_over_http2_is_told_to_go() {
    let running = Running::start(routes(), |server| server.idle_timeout(SHORT));
    let client = connect(running.addr).await;
    assert_eq!(client.ask("/").await.await.unwrap().unwrap(), "hello");
    // Only the server can end it: the client keeps it.
    running.wait(|now| now.open == 0);
    client.ended().await.unwrap();
    assert_eq!(connections(&running.end()), [0, 1, 0, 0]);
}

#[test]
fn who_is_old_enough_is_told_close_with_its_next_answer() {
    let running = Running::start(routes(), |server| server.max_connection_age(SHORT, SHORT));
    let began = Instant::now();
    let mut client = running.connect();
    while !client.get("/").unwrap().says_close() {
        assert!(began.elapsed() < SHORT * 100, "it does not age");
    }
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    assert_eq!(client.rest().unwrap(), b"");
    drop(client);
    running.wait(|now| now.open == 0);
    assert_eq!(connections(&running.end()), [1, 0, 0, 0]);
}

#[test]
fn an_old_idle_connection_is_closed_after_the_grace() {
    let running =
        Running::start(routes(), |server| server.max_connection_age(SHORT, Duration::ZERO).keep_alive_grace(SHORT));
    let began = Instant::now();
    assert_eq!(running.connect().rest().unwrap(), b"");
    assert!(began.elapsed() >= SHORT * 2, "{:?}", began.elapsed());
    assert_eq!(connections(&running.end()), [0, 1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_old_enough_over_http2_is_told_to_go_and_its_streams_finish() {
    let gate = Gate::closed();
    // Long enough for the request to come before it.
    let age = Duration::from_secs(2);
    let running = Running::start(gated(&gate), |server| server.max_connection_age(age, Duration::ZERO));
    let client = connect(running.addr).await;
    let answer = client.ask("/gate").await;
    running.wait(|now| now.in_flight == 1);
    let other = connect(running.addr).await;
    running.wait(|now| now.finished == 1);
    other.ended().await.unwrap();
    gate.open();
    assert_eq!(answer.await.unwrap().unwrap(), "passed");
    client.ended().await.unwrap();
    assert_eq!(connections(&running.end()), [2, 0, 0, 0]);
}
