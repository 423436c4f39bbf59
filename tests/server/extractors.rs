//! What a handler can ask about the socket that its request came through.

use axum::{Extension, Router, routing::get};
use axum_activation::{ActivatedListeners, ListenAddr, ListenerName, Server};

use crate::{
    http,
    running::{Running, addr_of, tcp_set},
    sockets,
};

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

fn app() -> Router {
    Router::new()
        .route("/name", get(name))
        .route("/maybe", get(maybe_name))
        .route("/sockets", get(sockets_of))
        .route("/take", get(take))
}

/// Serves with plain axum; the listener dies with the test's runtime.
fn serve_with_axum(set: &ActivatedListeners, app: Router) {
    tokio::spawn(axum::serve(set.one("http").unwrap(), app).into_future());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_told_the_name_of_the_socket() {
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
        assert!(answer.body.contains("not served by axum_activation::Server"), "{}", answer.body);
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
