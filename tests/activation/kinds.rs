//! Something else under a name than what it is asked for as, and a name that is taken already.

use std::os::fd::OwnedFd;

use axum_activation::ActivatedListeners;
use serde::{Deserialize, Serialize};

use crate::support::{
    fd_table::FdTable,
    seen::{SeenError, failure},
    sockets,
    subprocess::{ChildIo, Subprocess},
};

/// What a subprocess saw that asked for a name in a way that does not fit.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    before: FdTable,
    error: SeenError,
    after: FdTable,
    /// How many descriptors of that name are still there to be taken.
    left: usize,
    after_left: FdTable,
}

/// Asks for "http" as the argument says.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn take(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    let before = FdTable::now();
    let error = match io.arg().as_str() {
        "one" => failure(set.one("http")),
        "all" => failure(set.all("http")),
        "udp" => failure(set.udp("http")),
        "unix_datagram" => failure(set.unix_datagram("http")),
        other => panic!("no test asks for {other}"),
    };
    let after = FdTable::now();
    let left = set.files("http").unwrap();
    io.say(Asked { before, error, after, left: left.len(), after_left: FdTable::now() });
}

/// Asks in vain: the error says what was asked for and what is there, and everything can still be taken.
#[track_caller]
fn does_not_fit(ask: &str, given: impl Into<OwnedFd>, found: &str) {
    // A good listener of the same name stands before it, which must not be taken either.
    let asked: Asked =
        Subprocess::passed("take", [("http", sockets::tcp().into()), ("http", given.into())]).arg(ask).report();
    assert_eq!(asked.error.is, ["wrong_kind"]);
    asked.error.assert_says(&["\"http\" was asked for as a", found, "; pass "]);
    assert_eq!(asked.after, asked.before);
    assert_eq!(asked.after_left, asked.before);
    assert_eq!(asked.left, 2);
    assert!(asked.before.is_owned(3) && asked.before.is_owned(4));
}

#[test]
fn a_regular_file_is_no_listener() {
    does_not_fit(
        "one",
        sockets::regular_file(),
        "as a listener, but it is a regular file; pass a listening stream socket",
    );
}

#[test]
fn a_pipe_is_no_listener() {
    does_not_fit("one", sockets::a_pipe(), "it is a FIFO");
}

#[test]
fn a_device_is_no_listener() {
    does_not_fit("one", sockets::device(), "it is a file that is no socket");
}

#[test]
fn a_datagram_socket_is_no_listener() {
    does_not_fit("one", sockets::udp(), "it is an IPv4 datagram socket");
    does_not_fit("all", sockets::unix_datagram(), "it is a Unix datagram socket");
}

#[test]
fn a_socket_of_the_wrong_kind_is_named_with_its_address() {
    let socket = sockets::udp();
    let addr = socket.local_addr().unwrap();
    does_not_fit("one", socket, &format!("it is an IPv4 datagram socket ({addr}); pass a listening stream socket"));
}

#[test]
fn a_socket_that_does_not_listen_yet_is_no_listener() {
    does_not_fit("one", sockets::not_yet_listening(), "it is an IPv4 stream socket that does not listen");
}

#[test]
fn a_socket_of_another_type_is_no_listener() {
    does_not_fit("one", sockets::sequential_packets(), "it is a Unix sequential-packet socket");
    does_not_fit("one", sockets::netlink(), "it is a foreign-family socket of another type");
}

#[test]
fn a_listener_is_no_datagram_socket() {
    does_not_fit("udp", sockets::udp(), "as a UDP socket, but it is a listening IPv4 stream socket");
    does_not_fit("unix_datagram", sockets::unix_datagram(), "as a Unix datagram socket, but it is a listening IPv4");
}

/// What a subprocess saw that took a name twice.
#[derive(Debug, Serialize, Deserialize)]
struct Twice {
    first: FdTable,
    errors: Vec<SeenError>,
    after: FdTable,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn take_twice(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    let taken = set.one("http").unwrap();
    let first = FdTable::now();
    let again = ActivatedListeners::from_env().unwrap();
    let errors =
        [failure(set.one("http")), failure(set.all("http")), failure(set.files("http")), failure(again.one("http"))];
    io.say(Twice { first, errors: errors.into(), after: FdTable::now() });
    drop(taken);
}

#[test]
fn a_name_is_taken_once() {
    let twice: Twice = Subprocess::passed("take_twice", [("http", sockets::tcp().into())]).report();
    assert_eq!(twice.errors.len(), 4);
    for error in &twice.errors {
        assert_eq!(error.is, ["already_taken"]);
        error.assert_says(&["the sockets named \"http\" have been taken already", "take a name once"]);
    }
    assert_eq!(twice.after, twice.first);
    assert!(twice.after.is_owned(3));
}

#[test]
fn a_socket_is_not_taken_outside_a_runtime() {
    let set = ActivatedListeners::builder().socket("http", sockets::tcp()).build().unwrap();
    let addr = "127.0.0.1:0".parse().unwrap();
    for error in
        [failure(set.one("http")), failure(set.all("http")), failure(set.udp("http")), failure(set.listen(&addr))]
    {
        error.assert_says(&["outside a tokio runtime", "#[tokio::main]"]);
    }
    assert_eq!(set.files("http").unwrap().len(), 1);
}
