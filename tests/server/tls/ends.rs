//! How connections over TLS end: with a `close_notify`, at a drain and by a limit.

use std::{
    io::{Read, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use axum::{Router, routing::get};
use axum_activation::{
    ActivatedListeners, DrainReport, Error, ListenAddr, Server,
    drain::{Stats, UnmovedReason},
    handoff::Handoff,
    server::ServeOptions,
    tls::Tls,
};
use tokio::task::{JoinHandle, spawn_blocking};

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

/// A server that meets the one before it at a path.
struct Generation {
    task: JoinHandle<Result<DrainReport, Error>>,
    addr: ListenAddr,
    stats: Stats,
    handoff: Handoff,
}

impl Generation {
    async fn start(name: &'static str, folder: &Path, tls: Tls) -> Self {
        let path = folder.join("handoff.sock");
        let sockets = || ActivatedListeners::builder().handoff_socket(path).fallback("https", "127.0.0.1:0").build();
        let set = spawn_blocking(sockets).await.unwrap().unwrap();
        let addr = addr_of(&set, "https");
        let server = Server::new(set).serve_with("https", generation(name), ServeOptions::new().tls(tls));
        let server = server.without_signals().without_handoff_signals();
        let (stats, handoff) = (server.stats(), server.handoff());
        Self { task: tokio::spawn(server.run()), addr, stats, handoff }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_handoff_a_connection_ends_with_its_next_response_and_one_without_a_byte_moves() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let tls = authority.issue("localhost").tls().build().unwrap();
    let old = Generation::start("old", folder.path(), tls.clone()).await;
    let config = Arc::new(authority.client());
    let mut used = connect(&old.addr, &config, "localhost");
    assert!(ask(&mut used).unwrap().ends_with("old"));
    let mut unused = connect(&old.addr, &config, "localhost");
    eventually("both are accepted", || old.stats.read()[0].open == 2);

    let new = Generation::start("new", folder.path(), tls).await;
    eventually("the other one has moved", || new.stats.read().first().is_some_and(|stats| stats.taken_over == 1));
    assert!(ask(&mut unused).unwrap().ends_with("new"));
    let last = ask(&mut used).unwrap();
    assert!(last.contains("connection: close") && last.ends_with("old"), "{last}");
    assert_eq!(read_to_end(&mut used), "");
    new.handoff.predecessor_gone().await;
    let report = old.task.await.unwrap().unwrap();
    assert_eq!((report.listeners[0].moved, report.listeners[0].unmoved_by_reason.of(UnmovedReason::Tls)), (1, 1));
    new.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_handoff_a_connection_of_http2_gets_a_goaway_and_is_not_asked_to_move() {
    const PING_ACK: [u8; 9] = [0, 0, 8, 6, 1, 0, 0, 0, 0];
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let tls = authority.issue("localhost").tls().build().unwrap();
    let old = Generation::start("old", folder.path(), tls.clone()).await;
    let mut config = authority.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = connect(&old.addr, &Arc::new(config), "localhost");
    // The preface, SETTINGS, and the acknowledgement of those of the server.
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0").unwrap();
    eventually("it is served", || old.stats.read()[0].handshakes.done == 1);
    let new = Generation::start("new", folder.path(), tls).await;
    let frames = spawn_blocking(move || {
        let mut frames = Vec::new();
        let mut head = [0; 9];
        while client.read_exact(&mut head).is_ok() {
            let mut payload = vec![0; usize::from(head[2]) | usize::from(head[1]) << 8];
            client.read_exact(&mut payload).unwrap();
            frames.push((head[3], head[4]));
            if (head[3], head[4]) == (6, 0) {
                client.write_all(&[&PING_ACK[..], &payload].concat()).unwrap();
            }
        }
        frames
    });
    let frames = frames.await.unwrap();
    let settings = frames.iter().filter(|frame| **frame == (4, 0)).count();
    let goaways = frames.iter().filter(|frame| frame.0 == 7).count();
    assert_eq!((settings, goaways), (1, 2), "{frames:?}");
    let report = old.task.await.unwrap().unwrap();
    assert_eq!(report.listeners[0].unmoved_by_reason.to_string(), "1 tls");
    new.task.abort();
}
