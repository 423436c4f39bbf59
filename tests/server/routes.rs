//! Everything that axum serves is a route, and every name has its own.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request, State},
    handler::{Handler, HandlerWithoutStateExt},
    http::{Response, StatusCode},
    routing::get,
};
use axum_activation::{ActivatedListeners, PeerAddr, Server, server::IncomingConnection};
use http_body_util::Full;
use tempfile::tempdir;
use tower::{Service, service_fn};

use super::running::{Running, addr_of, tcp_set};
use crate::support::http::{self, Client};

async fn hello() -> &'static str {
    "hello"
}

async fn say(State(text): State<&'static str>) -> &'static str {
    text
}

async fn peer(ConnectInfo(peer): ConnectInfo<PeerAddr>) -> String {
    peer.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_has_a_router_of_its_own_on_tcp_and_unix_at_once() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let builder = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").fallback("http", "[::1]:0");
    let set = builder.fallback("admin", path.as_path()).build().unwrap();
    let addrs: Vec<_> = set.iter().map(|socket| socket.addr().unwrap().clone()).collect();
    let server = Server::new(set)
        .serve("http", Router::new().route("/", get(hello)))
        .serve("admin", Router::new().route("/", get(|| async { "status" })));
    let running = Running::start(server);

    let bodies: Vec<_> = addrs.iter().map(|addr| http::text(addr, "/")).collect();
    assert_eq!(bodies, ["hello", "hello", "status"]);
    let report = running.end().await;
    let listeners: Vec<_> =
        report.listeners.iter().map(|listener| (listener.name.as_str(), listener.finished)).collect();
    assert_eq!(listeners, [("http", 2), ("admin", 1)]);
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_service_is_a_route() {
    let names = ["router", "state", "method", "handler", "handler with state", "make", "connect info", "tower"];
    let set = tcp_set(&names);
    let addrs = names.map(|name| addr_of(&set, name));
    let bare = service_fn(|_: Request| ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("bare"))))));
    let server = Server::new(set)
        .serve("router", Router::new().route("/", get(hello)))
        .serve("state", Router::new().route("/", get(say)).with_state("state"))
        .serve("method", get(|| async { "method" }))
        .serve("handler", hello.into_service())
        .serve("handler with state", say.with_state("handler with state"))
        .serve("make", Router::new().route("/", get(hello)).into_make_service())
        .serve("connect info", get(peer).into_make_service_with_connect_info::<PeerAddr>())
        .serve("tower", bare);
    let running = Running::start(server);

    let bodies = addrs.each_ref().map(|addr| http::text(addr, "/"));
    let known: Vec<_> = bodies.iter().enumerate().filter(|(i, _)| *i != 6).map(|(_, body)| body.as_str()).collect();
    assert_eq!(known, ["hello", "state", "method", "hello", "handler with state", "hello", "bare"]);
    assert!(bodies[6].starts_with("127.0.0.1:"), "{}", bodies[6]);
    running.end().await;
}

/// Makes a service that says what it has learned of the connection.
#[derive(Clone, Copy, Debug)]
struct Describe;

impl Service<IncomingConnection<'_>> for Describe {
    type Response = Router;
    type Error = Infallible;
    type Future = Ready<Result<Router, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, incoming: IncomingConnection<'_>) -> Self::Future {
        let local = incoming.io().as_tcp().unwrap().local_addr().unwrap();
        let text = format!("{} {} {local}", incoming.listener_name(), incoming.remote_addr());
        ready(Ok(Router::new().route("/", get(|| async { text }))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_make_service_learns_of_each_connection() {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).serve("http", Describe));
    let mut bodies = [(); 2].map(|()| http::text(&addr, "/"));
    assert_ne!(bodies[0], bodies[1]);
    for body in &mut bodies {
        assert!(body.starts_with("http 127.0.0.1:") && body.ends_with(&format!(" {addr}")), "{body}");
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_many_requests() {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).serve("http", Router::new().route("/", get(hello))));
    let mut client = Client::connect(&addr).unwrap();
    for _ in 0..20 {
        assert_eq!(client.get("/").unwrap().text(), "hello");
    }
    assert_eq!(client.get("/nowhere").unwrap().status, StatusCode::NOT_FOUND.as_u16());
    drop(client);
    assert_eq!(running.end().await.listeners[0].finished, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_body_arrives_whole() {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    let count = |body: Bytes| async move { body.len().to_string() };
    let running = Running::start(Server::new(set).serve("http", axum::routing::post(count)));
    let mut client = Client::connect(&addr).unwrap();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n").unwrap();
    client.send([b'x'; 100_000]).unwrap();
    assert_eq!(client.answer().unwrap().text(), "100000");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_speaks_no_http_ends_alone() {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).serve("http", Router::new().route("/", get(hello))));
    let mut client = Client::connect(&addr).unwrap();
    client.send(b"\0nonsense\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, StatusCode::BAD_REQUEST.as_u16());
    assert!(client.is_closed());
    assert_eq!(http::text(&addr, "/"), "hello");
    running.end().await;
}

#[test]
fn a_server_prints_its_sockets_and_routes() {
    let server = Server::new(tcp_set(&[])).serve("http", get(hello)).serve("admin", service_fn(never));
    let expected = "Server { activated: [], routes: [\"http\", \"admin\"], drain_timeout: 30s, .. }";
    assert_eq!(format!("{server:?}"), expected);
}

async fn never(_: Request) -> Result<Response<Body>, Infallible> {
    std::future::pending().await
}
