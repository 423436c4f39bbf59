//! How a server ends when its program says so: what is in flight, what is idle, what is aborted.

use std::{
    convert::Infallible,
    future::pending,
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc::channel,
    time::Duration,
};

use axum::Router;
use axum_activation::{
    ListenAddr, Server,
    server::{Http2Options, IncomingConnection},
};
use tokio::time::timeout;
use tower::service_fn;

use super::running::{Gate, Running, Waiting, addr_of, tcp_set, wait_until_refused};
use crate::support::{
    http::Client,
    wait::{LIMIT, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished() {
    let Waiting { running, addr, gate, mut client } = Waiting::start(|server| server).await;

    let ended = running.stop();
    wait_until_refused(&addr);
    assert!(!ended.is_finished());
    gate.open();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "let go"));
    assert!(answer.says_close(), "{answer:?}");
    assert!(client.is_closed());

    let report = ended.await.unwrap().unwrap();
    assert!(report.is_clean());
    // One of the connects that found out may have come in while the queue was emptied.
    assert!(report.listeners[0].finished >= 1);
    let text = report.to_string();
    assert!(
        text.starts_with("drained in ") && text.contains("; http: 1 requests, ") && text.ends_with(" 0 aborted"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_idle_is_closed() {
    let (set, gate) = (tcp_set(&["http"]), Gate::new());
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).serve("http", gate.app()));
    let mut used = Client::connect(&addr).unwrap();
    assert_eq!(used.get("/").unwrap().text(), "hello");
    let mut silent = Client::connect(&addr).unwrap();
    // Connections are accepted in order: once this one is answered, the silent one is accepted too.
    assert_eq!(Client::connect(&addr).unwrap().get("/").unwrap().text(), "hello");

    assert!(running.end().await.is_clean());
    assert!(used.is_closed() && silent.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_at_drain_timeout_is_aborted_and_counted() {
    let (set, gate) = (tcp_set(&["http", "admin"]), Gate::new());
    let addr = addr_of(&set, "http");
    let limit = Duration::from_millis(150);
    let server = Server::new(set).serve("http", gate.app()).serve("admin", gate.app()).drain_timeout(limit);
    let running = Running::start(server);
    let mut clients = [(); 3].map(|()| Client::connect(&addr).unwrap());
    for client in &mut clients[1..] {
        client.ask("/wait").unwrap();
        gate.arrival().await;
    }
    assert_eq!(clients[0].get("/").unwrap().text(), "hello");

    let report = running.end().await;
    assert!(!report.is_clean() && report.elapsed >= limit, "{report}");
    let counts =
        report.listeners.iter().map(|listener| (listener.name.as_str(), listener.idle_closed, listener.aborted));
    assert_eq!(counts.collect::<Vec<_>>(), [("http", 1, 2), ("admin", 0, 0)]);
    assert!(clients.iter_mut().all(Client::is_closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_timeout_of_zero_aborts_at_once() {
    let Waiting { running, mut client, .. } = Waiting::start(|server| server.drain_timeout(Duration::ZERO)).await;
    assert_eq!(running.end().await.listeners[0].aborted, 1);
    assert!(client.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_server_stops_accepting_and_aborts() {
    let Waiting { running, addr, gate, mut client } = Waiting::start(|server| server).await;

    running.drop_it().await;
    wait_until_refused(&addr);
    assert!(client.is_closed());
    gate.departure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_dropped_while_it_drains_aborts() {
    let Waiting { running, addr, gate, mut client } = Waiting::start(|server| server).await;

    let ended = running.stop();
    wait_until_refused(&addr);
    ended.abort();
    assert!(ended.await.unwrap_err().is_cancelled());
    assert!(client.is_closed());
    gate.departure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_no_client_connected_to_ends_at_once() {
    let set = tcp_set(&["http"]);
    let report = Running::start(Server::new(set).serve("http", Gate::new().app())).end().await;
    assert!(report.is_clean());
    assert_eq!((report.listeners[0].finished, report.listeners[0].aborted), (0, 0));
}

/// A server whose make-service never answers, and a client that has come as far as that.
fn stuck_in_make(limit: Duration) -> (Running, ListenAddr, Client) {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    let (arrived, arrival) = channel();
    let make = service_fn(move |_: IncomingConnection<'_>| {
        arrived.send(()).unwrap();
        pending::<Result<Router, Infallible>>()
    });
    let running = Running::start(Server::new(set).serve("http", make).drain_timeout(limit));
    let client = Client::connect(&addr).unwrap();
    arrival.recv().unwrap();
    (running, addr, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_make_service_that_never_answers_does_not_hold_up_the_end() {
    let limit = Duration::from_millis(50);
    let (running, _, mut client) = stuck_in_make(limit);
    let report = running.end().await;
    assert!(report.elapsed >= limit);
    assert_eq!((report.listeners[0].finished, report.listeners[0].aborted), (0, 1));
    assert!(client.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_server_stops_accepting_whatever_its_make_service_does() {
    let (running, addr, mut client) = stuck_in_make(Duration::MAX);
    running.drop_it().await;
    wait_until_refused(&addr);
    assert!(client.is_closed());
}

/// Whether a request gets an answer, on a connection of its own.
fn is_answered(addr: &ListenAddr) -> bool {
    let ListenAddr::Tcp(addr) = addr else { panic!("{addr} is not TCP") };
    let mut client = TcpStream::connect(addr).unwrap();
    let mut answer = [0; 12];
    let asked = client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    asked.and_then(|()| client.read_exact(&mut answer)).is_ok() && answer == *b"HTTP/1.1 200"
}

/// Each option that is a time, at its least and at its most.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_serves_and_ends_whatever_its_times_are() {
    type Set = fn(Server, Duration) -> Server;
    let options: &[(&str, Set)] = &[
        ("drain_timeout", |server, time| server.drain_timeout(time)),
        ("keep_alive_grace", |server, time| server.keep_alive_grace(time)),
        ("lame_duck", |server, time| server.lame_duck(time)),
        ("header_timeout", |server, time| server.header_timeout(time)),
        ("idle_timeout", |server, time| server.idle_timeout(time)),
        ("max_connection_age", |server, time| server.max_connection_age(time, Duration::ZERO)),
        ("its jitter", |server, time| server.max_connection_age(Duration::from_secs(600), time)),
        ("start_timeout", |server, time| server.start_timeout(time)),
        ("idle_exit", |server, time| server.idle_exit(time)),
        ("handoff_timeout", |server, time| server.handoff_timeout(time)),
        ("keep_alive", |server, time| server.http2(Http2Options::new().keep_alive(time, time))),
    ];
    for time in [Duration::ZERO, Duration::MAX] {
        for (name, set) in options {
            let (sockets, gate) = (tcp_set(&["http"]), Gate::new());
            let addr = addr_of(&sockets, "http");
            let server =
                set(Server::new(sockets).serve("http", gate.app()).drain_timeout(Duration::from_secs(1)), time);
            let running = Running::start(server);
            if (*name, time) != ("idle_exit", Duration::ZERO) {
                // An idle connection that may not be idle at all is closed before its request comes, perhaps.
                eventually(&format!("it answers with {name} of {time:?}"), || is_answered(&addr));
            }
            let ended = running.stop();
            assert!(timeout(LIMIT, ended).await.unwrap().unwrap().is_ok(), "{name} of {time:?}");
        }
    }
}
