//! What a server refuses before it serves anything.

use std::{
    future::Future,
    net::UdpSocket,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::mpsc::channel,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Server};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::timeout;

use super::running::{Running, addr_of, tcp_set};
use crate::support::{
    http::Client,
    seen::{SeenError, failure},
    sockets,
};

fn app() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

/// What running `server` fails with, at once.
async fn refused(server: Server) -> SeenError {
    let ended = timeout(Duration::from_secs(20), server.without_signals().without_handoff_signals().run()).await;
    failure(ended.expect("it serves"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_whose_name_was_not_passed_is_refused() {
    let set = tcp_set(&["http"]);
    let mut client = Client::connect(&addr_of(&set, "http")).unwrap();
    client.ask("/").unwrap();
    let error = refused(Server::new(set).serve("http", app()).serve("admin", app())).await;
    assert_eq!(error.is, ["unknown_name"]);
    error.assert_says(&["no socket named \"admin\", there is \"http\"", "FileDescriptorName=admin", "`fallback`"]);
    assert!(client.is_closed(), "it was served all the same");
}

#[tokio::test]
async fn a_passed_socket_that_no_route_serves_is_refused() {
    let set = tcp_set(&["http", "app.socket"]);
    let addr = addr_of(&set, "app.socket");
    let error = refused(Server::new(set).serve("http", app())).await;
    assert_eq!(error.is, ["unserved"]);
    error.assert_says(&[
        &format!("the socket named \"app.socket\" ({addr}) was passed but no route serves it"),
        "its clients would hang; routes: \"http\"",
        "FileDescriptorName=",
        "allow_unserved()",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_socket_that_no_route_serves_can_be_allowed() {
    let set = tcp_set(&["http", "app.socket"]);
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set).serve("http", app()).allow_unserved());
    assert_eq!(Client::connect(&addr).unwrap().get("/").unwrap().text(), "hello");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_client_can_connect_to_needs_no_route() {
    let builder = ActivatedListeners::builder().socket("http", sockets::tcp()).socket("other", sockets::tcp());
    let builder = builder.socket("fifo", sockets::a_pipe()).socket("dns", sockets::udp());
    let set = builder.fallback("spare", "127.0.0.1:0").build().unwrap();
    let addr = addr_of(&set, "http");
    let other = set.one("other").unwrap();
    let running = Running::start(Server::new(set).serve("http", app()));
    assert_eq!(Client::connect(&addr).unwrap().get("/").unwrap().text(), "hello");
    running.end().await;
    drop(other);
}

#[tokio::test]
async fn two_routes_of_one_name_are_refused() {
    let server = Server::new(tcp_set(&["http"])).serve("http", app()).serve("http", app());
    refused(server).await.assert_says(&["two routes are named \"http\"", "merge the routers"]);
}

#[tokio::test]
async fn a_server_without_a_route_is_refused() {
    refused(Server::new(tcp_set(&[]))).await.assert_says(&["no route", ".serve(name, router)"]);
}

#[tokio::test]
async fn a_route_on_something_else_than_a_listener_is_refused() {
    let set = ActivatedListeners::builder().socket("http", sockets::udp()).build().unwrap();
    let error = refused(Server::new(set).serve("http", app())).await;
    assert_eq!(error.is, ["wrong_kind"]);
}

#[tokio::test]
async fn a_route_on_a_socket_that_is_taken_is_refused() {
    let set = tcp_set(&["http"]);
    let _taken = set.one("http").unwrap();
    assert_eq!(refused(Server::new(set).serve("http", app())).await.is, ["already_taken"]);
}

#[tokio::test]
async fn one_connection_and_several_routes_of_other_names_are_refused() {
    let (_client, served) = sockets::tcp_connection();
    let set = ActivatedListeners::builder().socket("connection", served).build().unwrap();
    let error = refused(Server::new(set).serve("http", app()).serve("admin", app())).await;
    error.assert_says(&[
        "Accept=yes",
        "\"connection\"",
        "\"http\", \"admin\"",
        "one route only",
        "FileDescriptorName=",
    ]);
}

#[tokio::test]
async fn a_refused_run_has_taken_nothing() {
    let set = ActivatedListeners::builder()
        .socket("http", sockets::tcp())
        .socket("dns", UdpSocket::bind("127.0.0.1:0").unwrap())
        .build()
        .unwrap();
    let error = Server::new(set.clone())
        .serve("http", app())
        .serve("dns", app())
        .without_handoff_signals()
        .run()
        .await
        .unwrap_err();
    assert!(error.is_wrong_kind(), "{error}");
    let error = Server::new(set.clone())
        .serve("http", app())
        .serve("admin", app())
        .without_handoff_signals()
        .run()
        .await
        .unwrap_err();
    assert!(error.is_unknown_name(), "{error}");
    set.one("http").unwrap();
}

#[tokio::test]
async fn a_sequential_packet_listener_that_no_route_can_serve_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    packets.bind(&SockAddr::unix(dir.path().join("packets")).unwrap()).unwrap();
    packets.listen(1).unwrap();
    let set = ActivatedListeners::builder().socket("http", sockets::tcp()).socket("packets", packets).build().unwrap();
    let error = Server::new(set).serve("http", Router::new()).without_handoff_signals().run().await.unwrap_err();
    assert!(error.is_unserved(), "{error}");
}

#[test]
fn outside_a_runtime_running_is_an_error_and_no_panic() {
    let set = ActivatedListeners::builder().socket("http", sockets::tcp()).build().unwrap();
    let run = pin!(Server::new(set.clone()).serve("http", Router::new()).without_handoff_signals().run());
    let Poll::Ready(Err(error)) = run.poll(&mut Context::from_waker(Waker::noop())) else { panic!("it runs") };
    assert!(error.to_string().contains("outside a tokio runtime"), "{error}");
}

#[tokio::test]
async fn a_limit_that_lets_no_connection_in_is_refused() {
    let error = refused(Server::new(tcp_set(&["http"])).serve("http", app()).max_connections(0)).await;
    error.assert_says(&["max_connections(0) lets ", "leave it out for no limit"]);
}

#[test]
fn a_runtime_without_timers_is_no_place_to_serve_in() {
    let (panicked, has_panicked) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let server = Server::new(tcp_set(&["http"])).serve("http", app()).without_signals().without_handoff_signals();
        let served = catch_unwind(AssertUnwindSafe(|| runtime.block_on(server.run()).is_ok()));
        panicked.send(served.is_err()).unwrap();
    });
    assert_eq!(has_panicked.recv_timeout(Duration::from_secs(20)), Ok(true), "it serves");
}
