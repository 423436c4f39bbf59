//! What a process says of the connections that it had: which moved, and why each other one did not.

use axum::{
    body::Body,
    http::{Request, Response},
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::support::service::{Service, Who, assert_moves, who};

/// The report of a process that has ended.
#[track_caller]
fn report(service: &Service, old: Who) -> String {
    service.wait_for_end(old.pid);
    service.wait_for_word(old.pid, "ends ")
}

#[test]
fn a_request_body_that_was_left_unread_and_an_answer_that_never_ends_do_not_move() {
    let service = Service::start("drain_timeout=2000");
    let old = service.who();
    service.gate("gate");
    service.gate("unread");
    let (mut idle, mut busy, mut sending) = (service.connect(), service.connect(), service.connect());
    assert_eq!(who(&mut idle), old);
    busy.ask("/slow/gate/1").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    sending.send("GET /slow/unread/2 HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc").unwrap();
    service.wait_for(|line| line.text == "holds unread");
    // Connections move now, so that one which does not is counted.
    let new = service.hand_over();
    assert_moves(&mut idle, new);
    service.open("unread");
    assert_eq!(sending.answer().unwrap().status, 200);
    assert_eq!(sending.rest().unwrap(), b"", "what comes could be taken for a request");

    let report = report(&service, old);
    assert!(report.contains(", 1 aborted, "), "{report}");
    assert!(report.ends_with(" not moved (1 busy, 1 request_body)"), "{report}");
    let moved = report.split(" moved (").next().and_then(|before| before.rsplit(' ').next());
    assert!(moved.is_some_and(|moved| report.contains(&format!("{moved} moved ({moved} http1), "))), "{report}");
    for line in [
        "a connection did not move listener=\"http\" peer=127.0.0.1:",
        " reason=busy",
        " reason=request_body",
        "the connections have moved to the successor or have ended moved=",
        " http1 unmoved=1 busy, 1 request_body",
    ] {
        service.wait_for_log(line);
    }
    service.end();
}

#[test]
fn a_client_that_says_close_or_closes_has_no_reason() {
    let service = Service::start("");
    let old = service.who();
    service.gate("gate");
    let (mut last, mut leaving) = (service.connect(), service.connect());
    leaving.send("POST /8 HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc").unwrap();
    while !leaving.is_read() {}
    last.send("GET /slow/gate/1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    service.hand_over();
    drop(leaving);
    service.open("gate");
    assert!(last.answer().unwrap().says_close());
    let report = report(&service, old);
    assert!(!report.contains("not moved"), "{report}");
    service.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_whose_handler_does_not_resume_it_does_not_move() {
    let service = Service::start("");
    let old = service.who();
    let stream = TcpStream::connect(service.addr).await.unwrap();
    let (mut echo, _) = client_async("ws://test/echo", stream).await.unwrap();
    echo.send(Message::text("hello")).await.unwrap();
    assert_eq!(echo.next().await.unwrap().unwrap(), Message::text("hello"));
    service.hand_over();
    while echo.next().await.is_some() {}
    let report = report(&service, old);
    assert!(report.ends_with(" not moved (1 not_resumable)"), "{report}");
    service.end();
}

async fn http2(service: &Service) -> SendRequest<Body> {
    let stream = TokioIo::new(TcpStream::connect(service.addr).await.unwrap());
    let (client, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn ask(client: &mut SendRequest<Body>, service: &Service, path: &str) -> hyper::Result<Response<Incoming>> {
    let request = Request::get(format!("http://{}{path}", service.addr)).body(Body::empty()).unwrap();
    client.send_request(request).await
}

/// Which process answers.
async fn who_over_http2(client: &mut SendRequest<Body>, service: &Service) -> Who {
    let answer = ask(client, service, "/who").await.unwrap().into_body().collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&answer).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_connection_moves_and_one_with_a_stream_that_does_not_end_does_not() {
    let service = Service::start("drain_timeout=2000");
    let old = service.who();
    service.gate("gate");
    let (mut idle, mut busy) = (http2(&service).await, http2(&service).await);
    assert_eq!(ask(&mut idle, &service, "/1").await.unwrap().status(), 200);
    let waiting = ask(&mut busy, &service, "/slow/gate/2");
    let held = async { service.wait_for(|line| line.text == "holds gate") };
    let ended = tokio::join!(waiting, async {
        held.await;
        let new = service.hand_over();
        // The old process answers on it until it has left.
        while who_over_http2(&mut idle, &service).await != new {}
    });
    ended.0.expect_err("the deadline is over");
    let report = report(&service, old);
    assert!(report.contains("1 http2), "), "{report}");
    assert!(report.ends_with(" not moved (1 open_streams)"), "{report}");
    service.end();
}
