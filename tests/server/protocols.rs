//! HTTP/1.1, HTTP/2 and protocols that a connection is switched to.

use std::process::{Command, Output};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{Response, StatusCode, Version, header},
    routing::{any, get},
};
use axum_activation::{ActivatedListeners, ListenAddr, Server};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::tempdir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::running::{Gate, Running, addr_of, tcp_set};
use crate::support::http::Client;

fn curl(arguments: &[&str]) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "30"]).args(arguments);
    curl
}

/// Standard output of a curl that succeeded.
#[track_caller]
fn output(mut curl: Command) -> String {
    let Output { status, stdout, stderr } = curl.output().expect("curl is missing: apt-get install curl");
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

async fn version(version: Version) -> String {
    format!("{version:?}")
}

fn app() -> Router {
    Router::new().route("/", get(version))
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_served_to_a_client_that_speaks_it_first() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let builder = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").fallback("http", path.as_path());
    let set = builder.build().unwrap();
    let url = format!("http://{}/", addr_of(&set, "http"));
    let running = Running::start(Server::new(set).serve("http", app()));

    assert_eq!(output(curl(&["--http2-prior-knowledge", &url])), "HTTP/2.0");
    assert_eq!(output(curl(&["--http1.1", &url])), "HTTP/1.1");
    assert_eq!(output(curl(&["--http1.0", &url])), "HTTP/1.0");
    let through_path = ["--http2-prior-knowledge", "--unix-socket", path.to_str().unwrap(), "http://localhost/"];
    assert_eq!(output(curl(&through_path)), "HTTP/2.0");
    let report = running.end().await;
    assert_eq!(report.listeners[0].finished, 4, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_http_2_connection_carries_many_requests_at_once() {
    let (set, gate) = (tcp_set(&["http"]), Gate::new());
    let addr = addr_of(&set, "http").to_string();
    let running = Running::start(Server::new(set).serve("http", gate.app()));
    let stream = TokioIo::new(TcpStream::connect(&addr).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let requests: Vec<_> = (0..20).map(|_| tokio::spawn(client.send_request(request(&addr, "/wait")))).collect();
    for _ in &requests {
        gate.arrival().await;
    }
    // All of them wait, and another is answered meanwhile.
    assert_eq!(body(client.send_request(request(&addr, "/")).await.unwrap()).await, "hello");
    requests.iter().for_each(|_| gate.open());
    for request in requests {
        assert_eq!(body(request.await.unwrap().unwrap()).await, "let go");
    }
    drop(client);
    connection.await.unwrap().unwrap();
    assert_eq!(running.end().await.listeners[0].finished, 1);
}

fn request(addr: &str, path: &str) -> Request {
    Request::get(format!("http://{addr}{path}")).body(Body::empty()).unwrap()
}

async fn body(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_an_http_2_request_finish() {
    let (set, gate) = (tcp_set(&["http"]), Gate::new());
    let url = format!("http://{}/wait", addr_of(&set, "http"));
    let running = Running::start(Server::new(set).serve("http", gate.app()));
    let client = tokio::task::spawn_blocking(move || output(curl(&["--http2-prior-knowledge", &url])));
    gate.arrival().await;
    let ended = running.stop();
    gate.open();
    assert_eq!(client.await.unwrap(), "let go");
    assert!(ended.await.unwrap().unwrap().is_clean());
}

/// Switches to a protocol that says everything twice.
async fn switch(mut request: Request) -> Response<Body> {
    tokio::spawn(async move {
        let mut io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        let mut word = [0; 3];
        while io.read_exact(&mut word).await.is_ok() {
            io.write_all(&[word, word].concat()).await.unwrap();
        }
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    response.header(header::UPGRADE, "twice").header(header::CONNECTION, "upgrade").body(Body::empty()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_can_be_switched_to_another_protocol() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let builder = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").fallback("http", path.as_path());
    let set = builder.build().unwrap();
    let tcp = addr_of(&set, "http");
    let running = Running::start(Server::new(set).serve("http", Router::new().route("/", any(switch))));
    for addr in [tcp, ListenAddr::Unix(path)] {
        let mut client = Client::connect(&addr).unwrap();
        // The first word comes together with the request: it must not get lost on the way.
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: twice\r\n\r\nabc").unwrap();
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, 101);
        assert!(answer.has_header("upgrade: twice"));
        assert_eq!(client.take(6).unwrap(), b"abcabc");
        client.send(b"xyz").unwrap();
        assert_eq!(client.take(6).unwrap(), b"xyzxyz");
    }
    running.end().await;
}
