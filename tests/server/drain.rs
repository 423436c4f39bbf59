//! How a server ends when its program says so: what is in flight, what is idle, what is cut.

use std::time::Duration;

use axum_activation::Server;

use crate::{
    http::Client,
    running::{Gate, Running, addr_of, tcp_set, wait_until_refused},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished() {
    let (set, gate) = (tcp_set(&["http"]), Gate::new());
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).route("http", gate.app()));
    let mut client = Client::connect(&addr);
    client.ask("/wait");
    gate.arrival().await;

    let ended = running.stop();
    wait_until_refused(&addr);
    assert!(!ended.is_finished());
    gate.open();
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, "let go"));
    assert!(answer.headers.contains(&"connection: close".to_owned()), "{answer:?}");
    assert!(client.is_closed());

    let report = ended.await.unwrap().unwrap();
    assert!(report.is_clean());
    assert_eq!((report.listeners[0].finished, report.listeners[0].cut), (1, 0));
    let text = report.to_string();
    assert!(text.starts_with("drained in ") && text.ends_with("; http: 1 finished, 0 cut"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_idle_is_closed() {
    let (set, gate) = (tcp_set(&["http"]), Gate::new());
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).route("http", gate.app()));
    let mut used = Client::connect(&addr);
    assert_eq!(used.get("/").body, "hello");
    let mut silent = Client::connect(&addr);
    // Connections are accepted in order: once this one is answered, the silent one is accepted too.
    assert_eq!(Client::connect(&addr).get("/").body, "hello");

    assert!(running.end().await.is_clean());
    assert!(used.is_closed() && silent.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_at_drain_timeout_is_cut_and_counted() {
    let (set, gate) = (tcp_set(&["http", "admin"]), Gate::new());
    let addr = addr_of(&set, "http");
    let limit = Duration::from_millis(150);
    let server = Server::new(set).route("http", gate.app()).route("admin", gate.app()).drain_timeout(limit);
    let running = Running::start(server);
    let mut clients = [(); 3].map(|()| Client::connect(&addr));
    for client in &mut clients[1..] {
        client.ask("/wait");
        gate.arrival().await;
    }
    assert_eq!(clients[0].get("/").body, "hello");

    let report = running.end().await;
    assert!(!report.is_clean() && report.elapsed >= limit, "{report}");
    let counts = report.listeners.iter().map(|listener| (listener.name.as_str(), listener.finished, listener.cut));
    assert_eq!(counts.collect::<Vec<_>>(), [("http", 1, 2), ("admin", 0, 0)]);
    assert!(clients.iter_mut().all(Client::is_closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_timeout_of_zero_cuts_at_once() {
    let (set, gate) = (tcp_set(&["http"]), Gate::new());
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).route("http", gate.app()).drain_timeout(Duration::ZERO));
    let mut client = Client::connect(&addr);
    client.ask("/wait");
    gate.arrival().await;
    assert_eq!(running.end().await.listeners[0].cut, 1);
    assert!(client.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_server_stops_accepting_and_cuts() {
    let (set, gate) = (tcp_set(&["http"]), Gate::new());
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).route("http", gate.app()));
    let mut client = Client::connect(&addr);
    client.ask("/wait");
    gate.arrival().await;

    running.drop_it().await;
    wait_until_refused(&addr);
    assert!(client.is_closed());
    gate.departure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_dropped_while_it_drains_cuts() {
    let (set, gate) = (tcp_set(&["http"]), Gate::new());
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).route("http", gate.app()));
    let mut client = Client::connect(&addr);
    client.ask("/wait");
    gate.arrival().await;

    let ended = running.stop();
    wait_until_refused(&addr);
    ended.abort();
    assert!(ended.await.unwrap_err().is_cancelled());
    assert!(client.is_closed());
    gate.departure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_connected_to_ends_at_once() {
    let set = tcp_set(&["http"]);
    let report = Running::start(Server::new(set).route("http", Gate::new().app())).end().await;
    assert!(report.is_clean());
    assert_eq!((report.listeners[0].finished, report.listeners[0].cut), (0, 0));
}
