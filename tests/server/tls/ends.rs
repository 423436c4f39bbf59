//! How connections over TLS end: with a `close_notify`, at a drain and by a limit.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Server, drain::UnmovedReason, server::ServeOptions};
use tokio::task::spawn_blocking;

use super::{Https, app, ask};
use crate::{
    running::{Gate, addr_of},
    support::{
        certificates::{Authority, connect},
        wait::eventually,
    },
};

/// Reads to the end: an error unless a `close_notify` says that it is the end.
fn read_to_end(client: &mut impl Read) -> String {
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_gets_a_close_notify_at_a_drain() {
    let authority = Authority::new();
    let options = ServeOptions::new().tls(authority.issue("localhost").tls().build().unwrap());
    let https = Https::start_with(app(), options.keep_alive_grace(Duration::ZERO), |server| server);
    let config = Arc::new(authority.client());
    let (mut used, mut unused) = (https.connect(&config), https.connect(&config));
    ask(&mut used).unwrap();
    unused.conn.complete_io(&mut unused.sock).unwrap();
    eventually("its handshake is done", || https.handshakes().done == 2);
    let report = https.running.end().await;
    assert_eq!((read_to_end(&mut used), read_to_end(&mut unused)), (String::new(), String::new()));
    assert_eq!((report.listeners[0].idle_closed, report.listeners[0].aborted), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_answered_as_the_last_one() {
    let authority = Authority::new();
    let gate = Gate::new();
    let options = ServeOptions::new().tls(authority.issue("localhost").tls().build().unwrap());
    let https = Https::start_with(gate.app(), options, |server| server);
    let mut client = https.connect(&Arc::new(authority.client()));
    client.write_all(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    gate.arrival().await;
    let ended = https.running.stop();
    https.drain.started().await;
    gate.open();
    let answer = read_to_end(&mut client).to_lowercase();
    assert!(answer.contains("connection: close") && answer.ends_with("let go"), "{answer}");
    assert_eq!(ended.await.unwrap().unwrap().listeners[0].finished, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_answer_gets_no_close_notify() {
    let authority = Authority::new();
    let gate = Gate::new();
    let options = ServeOptions::new().tls(authority.issue("localhost").tls().build().unwrap());
    let https = Https::start_with(gate.app(), options, |server| server.drain_timeout(Duration::from_millis(50)));
    let mut client = https.connect(&Arc::new(authority.client()));
    client.write_all(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    gate.arrival().await;
    let report = https.running.end().await;
    assert_eq!(report.listeners[0].aborted, 1);
    client.read_to_string(&mut String::new()).unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_idle_for_too_long_gets_a_close_notify() {
    let authority = Authority::new();
    let options = ServeOptions::new().tls(authority.issue("localhost").tls().build().unwrap());
    let https = Https::start_with(app(), options.idle_timeout(Duration::from_millis(100)), |server| server);
    let mut client = https.connect(&Arc::new(authority.client()));
    ask(&mut client).unwrap();
    assert_eq!(read_to_end(&mut client), "");
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_gets_a_close_notify_back() {
    let authority = Authority::new();
    let https = Https::start(authority.issue("localhost").tls().build().unwrap());
    let mut client = https.connect(&Arc::new(authority.client()));
    ask(&mut client).unwrap();
    client.conn.send_close_notify();
    client.conn.complete_io(&mut client.sock).unwrap();
    assert_eq!(read_to_end(&mut client), "");
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_that_goes_without_a_close_notify_is_no_error() {
    let authority = Authority::new();
    let https = Https::start(authority.issue("localhost").tls().build().unwrap());
    let mut config = authority.client();
    for protocol in ["http/1.1", "h2"] {
        config.alpn_protocols = vec![protocol.into()];
        let mut client = https.connect(&Arc::new(config.clone()));
        if protocol == "h2" {
            client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
            // The SETTINGS of the server.
            client.read_exact(&mut [0; 9]).unwrap();
        } else {
            ask(&mut client).unwrap();
        }
    }
    eventually("both have gone", || https.listener().open == 0 && https.listener().accepted == 2);
    assert_eq!((https.listener().finished, https.listener().errors), (2, 0));
    https.running.end().await;
}

/// Says which process it is.
fn generation(name: &'static str) -> Router {
    Router::new().route("/", get(move || async move { name }))
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_handoff_a_connection_ends_with_its_next_response_and_one_without_a_byte_moves() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (pair, path) = (authority.issue("localhost"), folder.path().join("handoff.sock"));
    let start = async |name| {
        let path = path.clone();
        let sockets =
            move || ActivatedListeners::builder().handoff_socket(path).fallback("https", "127.0.0.1:0").build();
        let set = spawn_blocking(sockets).await.unwrap().unwrap();
        let addr = addr_of(&set, "https");
        let options = ServeOptions::new().tls(pair.tls().build().unwrap());
        let server = Server::new(set).serve_with("https", generation(name), options).without_signals();
        let server = server.without_handoff_signals();
        let (stats, handoff) = (server.stats(), server.handoff());
        (tokio::spawn(server.run()), addr, stats, handoff)
    };
    let (old, addr, stats, _) = start("old").await;
    let config = Arc::new(authority.client());
    let mut used = connect(&addr, &config, "localhost");
    assert!(ask(&mut used).unwrap().ends_with("old"));
    let mut unused = connect(&addr, &config, "localhost");
    eventually("both are accepted", || stats.read()[0].open == 2);

    let (new, _, new_stats, handoff) = start("new").await;
    eventually("the other one has moved", || new_stats.read().first().is_some_and(|stats| stats.taken_over == 1));
    assert!(ask(&mut unused).unwrap().ends_with("new"));
    let last = ask(&mut used).unwrap();
    assert!(last.contains("connection: close") && last.ends_with("old"), "{last}");
    assert_eq!(read_to_end(&mut used), "");
    handoff.predecessor_gone().await;
    let report = old.await.unwrap().unwrap();
    assert_eq!((report.listeners[0].moved, report.listeners[0].unmoved_by_reason.of(UnmovedReason::Tls)), (1, 1));
    new.abort();
}
