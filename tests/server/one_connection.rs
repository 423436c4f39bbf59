//! A server that was passed one connection (`Accept=yes`): it serves that, and returns.

use std::{os::fd::OwnedFd, time::Duration};

use axum::{Router, extract::ConnectInfo, routing::get};
use axum_activation::{ActivatedListeners, DrainReport, ListenerName, PeerAddr, Server};
use tokio::time::timeout;

use super::running::{Gate, Running};
use crate::support::{
    http::Client,
    sockets,
    subprocess::{ChildIo, Subprocess},
};

fn passed(name: &str, connection: impl Into<OwnedFd>) -> ActivatedListeners {
    ActivatedListeners::builder().socket(name, connection).fallback("http", "127.0.0.1:0").build().unwrap()
}

fn app(text: &'static str) -> Router {
    let answer = move |name: ListenerName, ConnectInfo(peer): ConnectInfo<PeerAddr>| async move {
        format!("{text} {name} {peer}")
    };
    Router::new().route("/", get(answer))
}

/// Runs `server` until it returns by itself.
async fn run(server: Server) -> DrainReport {
    let ended = timeout(Duration::from_secs(20), server.without_signals().without_handoff_signals().run()).await;
    ended.expect("it does not return").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_returns_when_its_one_connection_ends() {
    let (client, served) = sockets::tcp_connection();
    let own = client.local_addr().unwrap();
    let running = tokio::spawn(run(Server::new(passed("connection", served)).serve("http", app("hello"))));
    let mut client = Client::over(client).unwrap();
    for _ in 0..2 {
        assert_eq!(client.get("/").unwrap().text(), format!("hello http {own}"));
    }
    assert!(!running.is_finished());
    drop(client);
    let report = running.await.unwrap();
    assert_eq!((report.listeners.len(), report.listeners[0].finished), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_of_its_name_serves_the_one_connection() {
    let (client, served) = sockets::unix_connection();
    let server = Server::new(passed("admin", served)).serve("http", app("public")).serve("admin", app("private"));
    let running = tokio::spawn(run(server));
    let mut client = Client::over(client).unwrap();
    assert!(client.get("/").unwrap().text().starts_with("private admin unix"));
    drop(client);
    assert_eq!(running.await.unwrap().listeners[0].name, "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_the_one_connection_finish() {
    let (client, served) = sockets::tcp_connection();
    let gate = Gate::new();
    let running = Running::start(Server::new(passed("connection", served)).serve("http", gate.app()));
    let mut client = Client::over(client).unwrap();
    client.ask("/wait").unwrap();
    gate.arrival().await;
    let ended = running.stop();
    gate.open();
    assert_eq!(client.answer().unwrap().text(), "let go");
    assert!(client.is_closed());
    assert!(ended.await.unwrap().unwrap().is_clean());
}

/// As a service does whose unit has `Accept=yes`.
#[tokio::main]
pub(crate) async fn serve_one_connection(io: &ChildIo) {
    let set = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env().unwrap();
    let report = Server::new(set).serve("http", app("hello")).run().await.unwrap();
    io.say((report.listeners[0].name.clone(), report.listeners[0].finished));
}

#[test]
fn a_process_that_was_passed_one_connection_ends_with_it() {
    let (client, served) = sockets::tcp_connection();
    let own = client.local_addr().unwrap();
    let mut child = Subprocess::passed("serve_one_connection", [("connection", served.into())]).start();
    let mut client = Client::over(client).unwrap();
    assert_eq!(client.get("/").unwrap().text(), format!("hello http {own}"));
    drop(client);
    assert_eq!(child.hear::<(String, u64)>(), ("http".to_owned(), 1));
    child.finish();
}
