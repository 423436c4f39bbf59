//! Connections that speak something else now.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode, header},
    routing::get,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    http::Client,
    running::{Running, connections},
};

const TIMEOUT: Duration = Duration::from_millis(500);

#[test]
fn an_upgraded_connection_is_waited_for() {
    let (running, ended) = start(Duration::ZERO);
    let mut client = upgrade(&running);
    running.start_drain();
    client.send("ping").unwrap();
    assert_eq!(client.take(4).unwrap(), b"ping", "it goes on");
    assert!(!running.has_ended());
    drop(client);
    assert_eq!(ended.recv().unwrap(), None, "its owner sees the end");
    assert_eq!(connections(&running.report()), [1, 0, 0, 0]);
}

#[test]
fn an_upgraded_connection_is_aborted_at_the_deadline_with_an_error_to_its_owner() {
    let (running, ended) = start(Duration::ZERO);
    let mut client = upgrade(&running);
    let report = running.end_after(TIMEOUT);
    assert_eq!((connections(&report), report.stuck), ([0, 0, 0, 1], 0));
    assert_eq!(ended.recv().unwrap(), Some(io::ErrorKind::ConnectionAborted));
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn an_upgrade_that_is_answered_otherwise_is_a_request_like_any_other() {
    let (running, _) = start(Duration::from_secs(20));
    let mut client = running.connect();
    let ask = "GET /no HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    client.send(ask).unwrap();
    assert_eq!(client.answer().unwrap().status, 404);
    running.start_drain();
    client.send(ask).unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.says_close()), (404, true));
    assert_eq!(client.rest().unwrap(), b"");
    drop(client);
    assert_eq!(connections(&running.report()), [1, 0, 0, 0]);
}

/// Echoes what upgraded connections say; and the end of each, as its owner sees it.
fn start(keep_alive_grace: Duration) -> (Running, Receiver<Option<io::ErrorKind>>) {
    let (sender, ended) = channel();
    let handler = async move |request: Request<Body>| switch(request, sender.clone());
    let router = Router::new().route("/", get(handler));
    (Running::start_paused(router, |server| server.drain_timeout(TIMEOUT).keep_alive_grace(keep_alive_grace)), ended)
}

fn upgrade(running: &Running) -> Client {
    let mut client = running.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").unwrap();
    let (status, head) = client.headers().unwrap();
    assert!(status == 101 && head.contains("connection: upgrade"), "{head}");
    client
}

fn switch(request: Request<Body>, ended: Sender<Option<io::ErrorKind>>) -> Response<Body> {
    tokio::spawn(async move {
        let stream = hyper::upgrade::on(request).await.expect("an upgrade");
        let end = echo(TokioIo::new(stream)).await.err().map(|error| error.kind());
        ended.send(end)
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let response = response.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "echo");
    response.body(Body::empty()).expect("a response")
}

async fn echo(mut stream: TokioIo<hyper::upgrade::Upgraded>) -> io::Result<()> {
    let mut space = [0; 64];
    loop {
        match stream.read(&mut space).await? {
            0 => return Ok(()),
            count => stream.write_all(&space[..count]).await?,
        }
    }
}
