//! The ends of HTTP/2 connections.

use std::{
    future::pending,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::{Request, StatusCode},
    routing::get,
};
use axum_activation::{ActivatedListeners, Server};
use tokio::{
    join,
    net::TcpStream,
    sync::Mutex,
    task::{JoinHandle, yield_now},
};

use super::service::{Gate, gated, routes};
use crate::support::running::{Running, connections};

const TIMEOUT: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn streams_in_flight_finish_and_the_connection_ends_in_order() {
    let gate = Gate::closed();
    let running = Running::start(gated(&gate), |server| server);
    let client = connect(running.addr).await;
    let answers = [client.ask("/gate").await, client.ask("/gate").await];
    running.wait(|now| now.in_flight == 2);
    running.start_drain();
    gate.open();
    gate.open();
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap(), "passed");
    }
    client.ended().await.unwrap();
    let report = running.report();
    assert_eq!((connections(&report), report.listeners[0].requests), ([1, 0, 0, 0], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_ends_at_once() {
    let running = Running::start_paused(routes(), |server| server.keep_alive_grace(Duration::from_secs(20)));
    let client = connect(running.addr).await;
    assert_eq!(client.ask("/").await.await.unwrap().unwrap(), "hello");
    let report = running.end();
    assert_eq!(report.elapsed, Duration::ZERO, "{report}");
    client.ended().await.unwrap();
    assert_eq!(connections(&report)[2..], [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_streams_are_aborted_in_time_and_their_connections_counted() {
    let running = Running::start_paused(routes(), |server| server.drain_timeout(TIMEOUT));
    let mut stuck = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..10 {
        let client = connect(running.addr).await;
        for _ in 0..100 {
            stuck.push(client.ask("/stuck").await);
        }
        clients.push(client);
    }
    running.wait(|now| now.in_flight == 1000);
    let report = running.end_after(TIMEOUT);
    assert_eq!((connections(&report), report.stuck), ([0, 0, 0, 10], 0));
    for answer in stuck {
        assert!(answer.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn no_handler_of_an_aborted_stream_is_alive_when_the_server_returns() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let stuck = get(move || {
        let held = Arc::clone(&held);
        async move {
            pending::<()>().await;
            drop(held);
        }
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let activated = ActivatedListeners::builder().socket("http", listener).build().unwrap();
    let server = Server::new(activated).serve("http", Router::new().route("/", stuck)).without_signals();
    let (drain, stats) = (server.drain(), server.stats());
    let clients = async {
        let client = connect(addr).await;
        let mut answers = Vec::new();
        for _ in 0..100 {
            answers.push(client.ask("/").await);
        }
        while stats.read()[0].in_flight < 100 {
            yield_now().await;
        }
        drain.abort();
        (client, answers)
    };
    // The client's side is not polled any more when the server returns, and the runtime goes on.
    let (report, _clients) = join!(async { (server.run().await, Arc::strong_count(&alive)) }, clients);
    assert_eq!((connections(&report.0.unwrap()), report.1), ([0, 0, 0, 1], 1), "no handler has any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_a_ping_does_not_hold_up_the_drain_when_nothing_is_in_flight() {
    let grace = Duration::from_millis(200);
    let running = Running::start_paused(routes(), |server| server.keep_alive_grace(grace));
    let mut client = running.connect();
    // The preface and empty SETTINGS, and nothing after that.
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    // Its own SETTINGS: the connection is up.
    client.take(9).unwrap();
    running.start_drain();
    running.advance_by_steps(grace, || running.has_ended());
    let report = running.report();
    assert!(report.elapsed < Duration::from_secs(20), "{report}");
    assert_eq!(connections(&report), [0, 1, 0, 0]);
}

/// A client with one connection.
pub(super) struct Client {
    send: Mutex<h2::client::SendRequest<Bytes>>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

pub(super) async fn connect(addr: SocketAddr) -> Client {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    Client { send: Mutex::new(send), connection: tokio::spawn(connection) }
}

impl Client {
    /// Sends a request, and returns the answer to come.
    pub(super) async fn ask(&self, path: &str) -> JoinHandle<Result<String, h2::Error>> {
        let mut send = self.send.lock().await.clone().ready().await.unwrap();
        let request = Request::get(format!("http://test{path}")).body(()).unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        tokio::spawn(async move {
            let response = response.await?;
            assert_eq!(response.status(), StatusCode::OK);
            let mut body = response.into_body();
            let mut text = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                text.extend_from_slice(&data);
            }
            Ok(String::from_utf8(text).unwrap())
        })
    }

    /// How the connection ended.
    pub(super) async fn ended(self) -> Result<(), h2::Error> {
        drop(self.send);
        self.connection.await.unwrap()
    }
}
