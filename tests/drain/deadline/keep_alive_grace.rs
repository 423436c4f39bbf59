//! Idle HTTP/1 connections at the drain: one more request, or the end.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use axum_activation::{ActivatedListeners, ListenAddr, Server};

use super::service::routes;
use crate::support::running::{Running, TICK, at_rest, connections};

const KEEP_ALIVE_GRACE: Duration = Duration::from_millis(300);

#[test]
fn an_idle_connection_is_closed_after_the_grace_and_no_sooner() {
    let running = Running::start_paused(routes(), |server| server.keep_alive_grace(KEEP_ALIVE_GRACE));
    let fresh = running.connect();
    let mut used = running.connect();
    assert_eq!(used.get("/").unwrap().text(), "hello");
    running.wait(|now| now.open == 2);
    running.start_drain();
    running.advance(KEEP_ALIVE_GRACE - TICK);
    assert!(fresh.is_silent() && used.is_silent());
    running.advance(TICK);
    for mut client in [fresh, used] {
        assert_eq!(client.rest().unwrap(), b"");
    }
    assert_eq!(connections(&running.report()), [0, 2, 0, 0]);
}

/// A proxy that has not noticed yet still sends on the connections that it has.
#[test]
fn no_idle_connection_is_closed_before_the_lame_duck_is_over() {
    let lame_duck = KEEP_ALIVE_GRACE * 3;
    let running =
        Running::start_paused(routes(), |server| server.keep_alive_grace(KEEP_ALIVE_GRACE).lame_duck(lame_duck));
    let mut idle = running.connect();
    assert_eq!(idle.get("/").unwrap().text(), "hello");
    running.start_drain();
    running.advance(lame_duck);
    running.advance(KEEP_ALIVE_GRACE - TICK);
    assert!(idle.is_silent());
    running.advance(TICK);
    assert_eq!(idle.rest().unwrap(), b"");
    assert_eq!(connections(&running.report()), [0, 1, 0, 0]);
}

#[test]
fn a_request_within_the_grace_is_answered_as_the_last() {
    let running = Running::start_paused(routes(), |server| server.keep_alive_grace(Duration::from_secs(20)));
    let fresh = running.connect();
    let mut used = running.connect();
    assert!(!used.get("/").unwrap().says_close());
    running.wait(|now| now.open == 2);
    running.start_drain();
    for mut client in [fresh, used] {
        let answer = client.get("/").unwrap();
        assert_eq!((answer.text(), answer.says_close()), ("hello", true));
        assert_eq!(client.rest().unwrap(), b"");
    }
    let report = running.report();
    assert_eq!(report.elapsed, Duration::ZERO, "it waits for no client: {report}");
    assert_eq!(connections(&report), [2, 0, 0, 0]);
}

/// The timer goes off and the request comes between two looks at the socket: the request wins.
#[tokio::test(start_paused = true)]
async fn a_request_at_the_last_moment_of_the_grace_is_answered() {
    for asked_before in [false, true] {
        let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build().unwrap();
        let Some(ListenAddr::Tcp(addr)) = activated.iter().next().and_then(|socket| socket.addr().cloned()) else {
            panic!("no TCP socket");
        };
        let server = Server::new(activated)
            .serve("http", routes())
            .keep_alive_grace(KEEP_ALIVE_GRACE)
            .idle_timeout(None)
            .without_signals()
            .without_handoff_signals();
        let (drain, stats) = (server.drain(), server.stats());
        let serving = tokio::spawn(server.run());
        let mut client = TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        let requests = u64::from(asked_before);
        if asked_before {
            client.write_all(request).unwrap();
        }
        // Time stands still, but sockets are looked at; the task of the connection is at rest after some turns.
        at_rest().await;
        assert_eq!(stats.read().iter().map(|now| (now.open, now.requests)).collect::<Vec<_>>(), [(1, requests)]);
        drain.start();
        let mut asking = client.try_clone().unwrap();
        // Wakes up a moment before the connection does, in the same turn.
        let last_moment = tokio::spawn(async move {
            tokio::time::sleep(KEEP_ALIVE_GRACE - Duration::from_millis(1)).await;
            asking.write_all(request).unwrap();
        });
        at_rest().await;
        tokio::time::advance(KEEP_ALIVE_GRACE * 2).await;
        last_moment.await.unwrap();
        let report = serving.await.unwrap().unwrap();
        assert_eq!(report.listeners[0].requests, requests + 1, "{report}");
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        assert!(answers.contains("connection: close") && answers.ends_with("hello"), "{answers}");
    }
}
