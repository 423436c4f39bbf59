//! What a handler can ask about the socket that its request came through.

use std::net::SocketAddr;

use axum::{Extension, Router, extract::ConnectInfo, routing::get};
use axum_activation::{ActivatedListeners, Drain, ListenAddr, ListenerName, PeerAddr, Server, layer::DrainLayer};

use super::running::{Running, addr_of, tcp_set};
use crate::support::{http, sockets};

async fn name(name: ListenerName) -> String {
    format!("{name} {} {}", name.as_str(), name.len())
}

async fn maybe_name(name: Option<ListenerName>) -> String {
    format!("{:?}", name.as_deref())
}

async fn sockets_of(set: ActivatedListeners) -> String {
    format!("{:?}", set.names()) + &format!("{set:?}")
}

/// Tries to take what it was shown.
async fn take(set: ActivatedListeners) -> String {
    let addr = ListenAddr::Port(0);
    let errors = [set.one("spare").err(), set.all("spare").err(), set.files("spare").err(), set.listen(&addr).err()];
    format!("{errors:?}")
}

/// Needs both.
async fn peer(ConnectInfo(addr): ConnectInfo<SocketAddr>, ConnectInfo(peer): ConnectInfo<PeerAddr>) -> String {
    format!("{addr} {peer}")
}

async fn drain(drain: Drain) -> String {
    format!("{:?}", drain.phase())
}

async fn options(drain: Option<Drain>, set: Option<ActivatedListeners>) -> String {
    format!("{:?} {:?}", drain.map(|drain| drain.phase()), set.map(|set| set.names().len()))
}

fn app() -> Router {
    Router::new()
        .route("/name", get(name))
        .route("/maybe", get(maybe_name))
        .route("/sockets", get(sockets_of))
        .route("/take", get(take))
        .route("/peer", get(peer))
        .route("/drain", get(drain))
        .route("/options", get(options))
}

/// Serves with plain axum; the listener dies with the test's runtime.
fn serve_with_axum(set: &ActivatedListeners, app: Router) {
    tokio::spawn(axum::serve(set.one("http").unwrap(), app).into_future());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_learns_the_name_of_the_socket() {
    let set = tcp_set(&["http", "admin"]);
    let addrs = ["http", "admin"].map(|name| addr_of(&set, name));
    let running = Running::start(Server::new(set).serve("http", app()).serve("admin", app()));
    assert_eq!(addrs.each_ref().map(|addr| http::text(addr, "/name")), ["http http 4", "admin admin 5"]);
    assert_eq!(http::text(&addrs[0], "/maybe"), "Some(\"http\")");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_shown_the_sockets_and_cannot_take_them() {
    let set = ActivatedListeners::builder().socket("http", sockets::tcp()).socket("spare", sockets::a_pipe());
    let set = set.build().unwrap();
    let addr = addr_of(&set, "http");
    let running = Running::start(Server::new(set.clone()).serve("http", app()));

    let shown = format!("[\"http\", \"spare\"][\"http: {addr} (passed, taken)\", \"spare: a FIFO (passed)\"]");
    assert_eq!(http::text(&addr, "/sockets"), shown);
    let refused = http::text(&addr, "/take");
    assert_eq!(refused.matches("cannot be taken by a handler").count(), 4, "{refused}");
    assert!(refused.contains("take it in main"));
    assert_eq!(set.files("spare").unwrap().len(), 1);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_plain_axum_there_is_no_name() {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    serve_with_axum(&set, app());
    assert_eq!(http::text(&addr, "/maybe"), "None");
    for path in ["/name", "/sockets"] {
        let answer = http::get(&addr, path);
        assert_eq!(answer.status, 500);
        assert!(answer.text().contains("not served by axum_activation::Server"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_plain_axum_an_extension_shows_the_sockets() {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    serve_with_axum(&set, app().layer(Extension(set.clone())));
    assert_eq!(http::text(&addr, "/sockets"), format!("[\"http\"][\"http: {addr} (passed, taken)\"]"));
    assert!(http::text(&addr, "/take").contains("cannot be taken by a handler"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_asks_for_a_socket_address_gets_that_of_a_tcp_client() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let set = ActivatedListeners::builder().socket("http", sockets::tcp()).fallback("admin", path.as_path());
    let set = set.build().unwrap();
    let [addr, unix] = ["http", "admin"].map(|name| addr_of(&set, name));
    let peers = || app().into_make_service_with_connect_info::<SocketAddr>();
    let running = Running::start(Server::new(set).serve("http", peers()).serve("admin", peers()));
    let text = http::text(&addr, "/peer");
    let (socket, peer) = text.split_once(' ').unwrap();
    assert!(socket == peer && socket.starts_with("127.0.0.1:"), "{text}");
    assert!(http::text(&unix, "/peer").starts_with("0.0.0.0:0 unix"), "a Unix client has none");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_missing_is_none_and_what_may_not_names_its_layer() {
    let set = tcp_set(&["plain", "layered", "http"]);
    let [plain, layered, http] = ["plain", "layered", "http"].map(|name| addr_of(&set, name));
    let layer = DrainLayer::new(&Drain::new());
    tokio::spawn(axum::serve(set.one("plain").unwrap(), app()).into_future());
    tokio::spawn(axum::serve(set.one("layered").unwrap(), app().layer(layer)).into_future());
    let running = Running::start(Server::new(set).serve("http", app()));
    assert_eq!(http::text(&plain, "/options"), "None None");
    assert_eq!(http::text(&layered, "/options"), "Some(Running) None");
    assert_eq!(http::text(&http, "/options"), "Some(Running) Some(3)");
    assert_eq!(http::text(&layered, "/drain"), "Running");
    let refused = http::get(&plain, "/drain");
    assert_eq!(refused.status, 500);
    assert!(refused.text().contains("DrainLayer"), "{}", refused.text());
    running.end().await;
}

/// An `Arc<Server>` and a `&Server` may be used from any thread, whatever its services and futures are.
#[test]
fn a_server_is_send_and_sync() {
    fn check(_: &(impl Send + Sync)) {}
    let not_sync = std::cell::Cell::new(0);
    let ready = async move {
        tokio::task::yield_now().await;
        not_sync.set(1);
        Ok::<_, std::convert::Infallible>(())
    };
    check(&Server::new(tcp_set(&["http"])).serve("http", app()).ready_when(ready));
}
