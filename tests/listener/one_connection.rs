//! `Accept=yes`: what is passed is no listening socket but one connection.

use std::{
    future::Future,
    os::fd::OwnedFd,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListener, ActivatedListeners, ListenAddr, PeerAddr};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::{
    http::Client,
    seen::failure,
    sockets,
    subprocess::{ChildIo, Subprocess},
};

fn passed(name: &str, fd: impl Into<OwnedFd>) -> ActivatedListeners {
    ActivatedListeners::builder().socket(name, fd).build().unwrap()
}

/// Polls a future once.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

async fn is_pending(future: impl Future) -> bool {
    tokio::task::yield_now().await;
    poll_once(pin!(future)).is_pending()
}

#[tokio::test]
async fn one_connection_is_accepted_once_and_then_ended() {
    let (client, served) = sockets::tcp_connection();
    let mut listener = passed("connection", served).one("connection").unwrap();
    assert!(listener.is_one_connection());
    let ended = listener.ended();
    let mut ended = pin!(ended);

    let (stream, peer) = listener.accept().await;
    assert_eq!(peer, PeerAddr::Tcp(client.local_addr().unwrap()));
    assert!(is_pending(listener.accept()).await);
    assert!(poll_once(ended.as_mut()).is_pending(), "it has ended while its stream is alive");
    drop(stream);
    ended.await;
    assert!(is_pending(listener.accept()).await);
}

#[tokio::test]
async fn one_connection_that_was_not_accepted_ends_with_its_listener() {
    let (_client, served) = sockets::unix_connection();
    let listener = passed("connection", served).one("connection").unwrap();
    let ended = listener.ended();
    drop(listener);
    ended.await;
}

#[tokio::test]
async fn one_connection_tells_both_of_its_addresses() {
    let (client, served) = sockets::tcp_connection();
    let local = served.local_addr().unwrap();
    let listener = passed("connection", served).one("connection").unwrap();
    assert_eq!(client.peer_addr().unwrap(), local);
    assert_eq!(listener.local_addrs(), [ListenAddr::Tcp(local)]);
    assert_eq!(axum::serve::Listener::local_addr(&listener).unwrap(), PeerAddr::Tcp(local));
}

#[tokio::test]
async fn one_unix_connection_carries_the_credentials_of_its_client() {
    let (_client, served) = sockets::unix_connection();
    let mut listener = passed("connection", served).one("connection").unwrap();
    let (_, peer) = listener.accept().await;
    assert_eq!(peer.credentials().unwrap().pid, i32::try_from(std::process::id()).ok());
}

#[tokio::test]
async fn one_unix_connection_tells_the_abstract_name_of_its_client() {
    let name = format!("axum-activation-{}-client", std::process::id());
    let server = socket(&format!("\0{name}-server"));
    server.listen(1).unwrap();
    let client = socket(&format!("\0{name}"));
    client.connect(&server.local_addr().unwrap()).unwrap();
    let (served, _) = server.accept().unwrap();
    let mut listener = passed("connection", served).one("connection").unwrap();
    let (_, PeerAddr::Unix(peer)) = listener.accept().await else { panic!("it is a Unix socket") };
    assert_eq!(peer.addr.unwrap().to_string(), format!("@{name}"));
}

/// A Unix stream socket that is bound to `path`.
fn socket(path: &str) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
    socket
}

#[tokio::test]
async fn one_connection_answers_to_every_name() {
    let (_client, served) = sockets::tcp_connection();
    let set = passed("connection", served);
    assert!(set.one("http").unwrap().is_one_connection());
    assert_eq!(failure(set.one("admin")).is, ["already_taken"]);
}

#[tokio::test]
async fn one_connection_lets_no_fallback_be_bound() {
    let (_client, served) = sockets::tcp_connection();
    let set =
        ActivatedListeners::builder().socket("connection", served).fallback("http", "127.0.0.1:0").build().unwrap();
    assert_eq!(set.names(), ["connection"]);
    assert!(set.one("http").unwrap().is_one_connection());
}

#[tokio::test]
async fn a_connection_among_listeners_is_no_listener() {
    let (_client, served) = sockets::tcp_connection();
    let at = served.local_addr().unwrap();
    let builder = ActivatedListeners::builder().socket("http", sockets::tcp()).socket("call", served);
    let set = builder.fallback("admin", "127.0.0.1:0").build().unwrap();
    assert_eq!(set.names(), ["http", "call", "admin"]);
    assert_eq!(failure(set.one("else")).is, ["unknown_name"]);
    let failure = failure(set.one("call"));
    assert_eq!(failure.is, ["wrong_kind"]);
    let says = format!("it is a connected IPv4 stream socket ({at}); pass a listening stream socket");
    assert!(failure.text.contains(&says), "{}", failure.text);
    assert!(!set.one("http").unwrap().is_one_connection());
    assert_eq!(set.files("call").unwrap().len(), 1);
}

/// As a program does that knows nothing but axum.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn serve_one_connection(_: &ChildIo) {
    let listener: ActivatedListener = ActivatedListeners::from_env().unwrap().one("http").unwrap();
    let ended = listener.ended();
    let app = Router::new().route("/", get(|| async { "hello" }));
    axum::serve(listener, app).with_graceful_shutdown(ended).await.unwrap();
}

#[test]
fn axum_serves_one_connection_and_returns() {
    let (client, served) = sockets::tcp_connection();
    let child = Subprocess::passed("serve_one_connection", [("connection", served.into())]).start();
    let mut client = Client::over(client).unwrap();
    assert_eq!(client.get("/").unwrap().text(), "hello");
    assert_eq!(client.get("/").unwrap().text(), "hello");
    drop(client);
    child.finish();
}
