//! Sockets that arrive as `systemfd --no-pid` passes them: without names, and without `LISTEN_PID`.

use std::net::TcpListener;

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Server};
use rustix::process::Signal;

use crate::support::{
    http,
    seen::{SeenError, failure},
    sockets,
    subprocess::{ChildIo, Subprocess},
};

/// A program that is passed these sockets.
fn started_by_systemfd(subprocess: &'static str, sockets: &[&TcpListener]) -> Subprocess {
    let subprocess =
        sockets.iter().fold(Subprocess::new(subprocess), |subprocess, socket| subprocess.fd(sockets::copy(socket)));
    subprocess.count(sockets.len().to_string()).variable("LISTEN_FDS_FIRST_FD", "3")
}

fn app() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// As most programs are: one fallback, and a route of its name.
#[tokio::main]
pub(crate) async fn serve_with_one_fallback(io: &ChildIo) {
    let set = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env().unwrap();
    io.say(set.names());
    Server::new(set).serve("http", app()).run().await.unwrap();
}

/// As axum's own examples are.
#[tokio::main]
pub(crate) async fn serve_by_axum(io: &ChildIo) {
    let set = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env().unwrap();
    io.say(set.names());
    axum::serve(set.one("http").unwrap(), app()).await.unwrap();
}

#[tokio::main]
pub(crate) async fn serve_one_route(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    io.say(set.names());
    Server::new(set).serve("http", app()).run().await.unwrap();
}

/// Falls back to the addresses of the words that it is given, and serves a route for each.
#[tokio::main]
pub(crate) async fn serve_routes(io: &ChildIo) {
    let (words, mut builder) = (io.arg(), ActivatedListeners::builder());
    let names = ["http", "admin"];
    for (name, addr) in names.into_iter().zip(words.split_terminator(' ')) {
        builder = builder.fallback(name, addr);
    }
    let set = match builder.from_env() {
        Ok(set) => set,
        Err(error) => return io.say(SeenError::from(error)),
    };
    let unknown = failure(set.one("http"));
    let server = names.into_iter().fold(Server::new(set), |server, name| server.serve(name, app()));
    io.say([unknown, failure(server.run().await)]);
}

/// Fails unless the program finds sockets of these names, and serves them.
#[track_caller]
fn is_served(subprocess: &'static str, names: &[&str]) {
    let (one, other) = (sockets::tcp(), sockets::tcp());
    let mut program = started_by_systemfd(subprocess, &[&one, &other]).start();
    assert_eq!(program.hear::<Vec<String>>(), names, "{subprocess}");
    for addr in [sockets::addr(&one), sockets::addr(&other)] {
        assert_eq!(http::text(&addr, "/"), "hello", "{subprocess}");
    }
    program.signal(Signal::KILL);
    assert!(!program.end().success());
}

#[test]
fn the_one_fallback_names_them() {
    is_served("serve_with_one_fallback", &["http"]);
    is_served("serve_by_axum", &["http"]);
}

#[test]
fn the_one_route_serves_them() {
    is_served("serve_one_route", &[""]);
}

#[test]
fn a_fallback_that_one_of_them_is_in_the_way_of_says_which() {
    let socket = sockets::tcp();
    let addr = sockets::addr(&socket);
    let subprocess = started_by_systemfd("serve_routes", &[&sockets::tcp(), &socket]);
    let error: SeenError = subprocess.arg(format!("{addr} 127.0.0.1:0")).report();
    assert_eq!(error.is, ["address_in_use"]);
    let says =
        format!("cannot listen on {addr}: this process was passed a socket there as descriptor 4, without a name");
    error.assert_says(&[&says, "LISTEN_FDNAMES=", "--fdname=", "this one \"http\""]);
}

#[test]
fn two_routes_and_no_names_are_an_error_that_says_how_to_name_them() {
    let socket = sockets::tcp();
    let [unknown, unserved]: [SeenError; 2] = started_by_systemfd("serve_routes", &[&socket]).arg("").report();
    unknown.assert_says(&["no socket named \"http\", those that were passed have no names", "LISTEN_FDNAMES=http"]);
    assert_eq!(unserved.is, ["unserved"]);
    let addr = sockets::addr(&socket);
    unserved.assert_says(&[
        &format!("a socket ({addr}) was passed without a name"),
        "LISTEN_FDNAMES=",
        "one route only",
    ]);
}
