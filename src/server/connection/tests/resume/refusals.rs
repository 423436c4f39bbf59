//! Exchanges that cannot go on: the client is sent away, and nothing of what it has sent is read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, ws::WebSocketUpgrade},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    apps::{self, Order},
    client::{Raw, text, websocket_request},
    line::Line,
    moves::settle,
};
use crate::{
    drain::UnmovedReason,
    resume::{Resume, Resumed},
    server::limits::Limits,
};

/// Close, with the code 1012.
const RESTART: &[u8] = &[0x88, 2, 0x03, 0xf4];

/// A request that a client could hide in what it sends on a WebSocket.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";

/// What a client gets whose WebSocket goes to a process with this router, and how often a hidden request was answered.
async fn sent_away(next: impl Fn() -> Router + Send + Sync + 'static) -> (Vec<u8>, usize) {
    let hidden = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hidden);
    let limits = Limits { header_timeout: Some(Duration::from_millis(50)), ..Limits::default() };
    let line = Line::with(limits, move |generation| {
        let counted = Arc::clone(&counted);
        let trap =
            Router::new().route("/hidden", get(async move || counted.fetch_add(1, Ordering::Relaxed).to_string()));
        trap.merge(if generation == 0 { apps::echo(0, Order::RequestedLast) } else { next() })
    });
    let mut client = Raw::upgrade(&line, "/echo", b"").await;
    client.write(&text("hello")).await;
    assert_eq!(client.text_frame().await, "0 1 hello");
    line.hand_over();
    while line.open(0) > 0 {
        tokio::task::yield_now().await;
    }
    client.write(HIDDEN.as_bytes()).await;
    let rest = client.rest().await;
    drop(client);
    while line.open(1) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(line.unmoved(1), [(UnmovedReason::NotResumed, 1)]);
    (rest, hidden.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_process_without_the_route_sends_the_client_away() {
    assert_eq!(sent_away(Router::new).await, (RESTART.to_vec(), 0));
}

#[tokio::test]
async fn a_handler_that_answers_401_sends_the_client_away() {
    let next = || Router::new().route("/echo", get(async |_: Resume| StatusCode::UNAUTHORIZED));
    assert_eq!(sent_away(next).await, (RESTART.to_vec(), 0));
    // And a layer before it.
    let refuse = async |_: Request, _: Next| StatusCode::UNAUTHORIZED.into_response();
    let next = move || apps::echo(1, Order::RequestedLast).layer(middleware::from_fn(refuse));
    assert_eq!(sent_away(next).await, (RESTART.to_vec(), 0));
}

#[tokio::test]
async fn a_handler_that_panics_sends_the_client_away() {
    let next = || {
        Router::new().route(
            "/echo",
            get(async |resume: Resume| -> Response { panic!("it is resumed: {}", resume.is_resumed()) }),
        )
    };
    assert_eq!(sent_away(next).await, (RESTART.to_vec(), 0));
}

#[tokio::test]
async fn a_handler_that_never_answers_sends_the_client_away() {
    let next = || Router::new().route("/echo", get(async |_: Resume| std::future::pending::<Response>().await));
    assert_eq!(sent_away(next).await, (RESTART.to_vec(), 0));
}

#[tokio::test]
async fn a_handler_that_does_not_ask_for_resume_sends_the_client_away() {
    let next = || {
        Router::new().route(
            "/echo",
            get(async |upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async |mut socket| while socket.recv().await.is_some() {})
            }),
        )
    };
    assert_eq!(sent_away(next).await, (RESTART.to_vec(), 0));
}

#[tokio::test]
async fn an_answer_that_reads_the_bytes_otherwise_sends_the_client_away() {
    for (name, value) in [
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-accept", "other"),
        ("upgrade", "other"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
    ] {
        let next = move || {
            let change = move |request: Request, next: Next| async move {
                let mut response = next.run(request).await;
                response.headers_mut().insert(name, value.parse().unwrap());
                response
            };
            apps::echo(1, Order::RequestedLast).layer(middleware::from_fn(change))
        };
        assert_eq!(sent_away(next).await, (RESTART.to_vec(), 0), "{name}");
    }
    // An answer with a body, and one that is no upgrade.
    let next = || Router::new().route("/echo", get(async |_: Resume| "hello"));
    assert_eq!(sent_away(next).await, (RESTART.to_vec(), 0));
}

#[tokio::test]
async fn a_header_that_changes_no_bytes_may_differ() {
    let line = Line::new(|generation| {
        let change = move |request: Request, next: Next| async move {
            assert_eq!(request.extensions().get::<Resumed>().is_some(), generation > 0);
            let mut response = next.run(request).await;
            response.headers_mut().insert("x-generation", generation.to_string().parse().unwrap());
            response
        };
        apps::echo(generation, Order::RequestedLast).layer(middleware::from_fn(change))
    });
    let mut client = Raw::upgrade(&line, "/echo", b"").await;
    line.hand_over();
    settle(&line).await;
    client.write(&text("hello")).await;
    assert_eq!(client.text_frame().await, "1 1 hello");
}

#[tokio::test]
async fn a_stream_that_cannot_go_on_is_torn() {
    for next in [Router::new, || Router::new().route("/events", get(async |_: Resume| Body::from("the end")))] {
        let line = Line::new(move |generation| match generation {
            0 => apps::events(0, u64::MAX).merge(apps::hello(0)),
            other => next().merge(apps::hello(other)),
        });
        let mut client = Raw::ask(&line, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
        client.headers().await;
        assert_eq!(client.chunk().await, "id: 1\ndata: from 0\n\n");
        client.write(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
        line.hand_over();
        let rest = String::from_utf8(client.rest().await).unwrap();
        // Whole chunks, and not the last one: so the client knows that it is not whole.
        assert!(rest.is_empty() || rest.ends_with("\n\n\r\n"), "{rest:?}");
        assert!(!rest.contains("\r\n0\r\n") && !rest.contains("hello"), "{rest:?}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_never_sent_to_a_handler() {
    let line = Line::new(|generation| apps::echo(generation, Order::RequestedLast).merge(apps::hello(generation)));
    let mut client = Raw::upgrade(&line, "/echo", b"").await;
    line.change_records(|record| record.target = "/hello HTTP/1.1\r\nhost: x\r\n\r\nGET /echo".to_owned());
    line.hand_over();
    assert_eq!(client.rest().await, RESTART);
    let mut client = Raw::upgrade(&line, "/echo", b"").await;
    line.change_records(|record| record.headers.push(("content-length".to_owned(), b"5".to_vec())));
    line.hand_over();
    assert_eq!(client.rest().await, RESTART);
}

#[tokio::test]
async fn a_request_with_a_body_stays() {
    let line = Line::new(|generation| {
        let app = apps::echo(generation, Order::RequestedLast).merge(apps::reasons());
        app.merge(apps::events(generation, 2000))
    });
    let with = |header: &str, body: &str| {
        websocket_request("/echo").replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n{body}"))
    };
    let mut stay = Vec::new();
    for request in [with("content-length: 4", "body"), with("transfer-encoding: chunked", "0\r\n\r\n")] {
        let mut client = Raw::ask(&line, &request).await;
        assert!(client.headers().await[0].starts_with("HTTP/1.1 101 "));
        stay.push(client);
    }
    let mut moves = Raw::ask(&line, &with("content-length: 0", "")).await;
    moves.headers().await;
    line.hand_over();
    settle(&line).await;
    moves.write(&text("hello")).await;
    assert_eq!(moves.text_frame().await, "1 1 hello");
    for client in &mut stay {
        client.write(&text("hello")).await;
        assert_eq!(client.text_frame().await, "0 1 hello");
    }
    assert_eq!(line.moved().len(), 1);
}

#[tokio::test]
async fn an_exchange_that_cannot_move_says_why() {
    let line = Line::new(|_| apps::reasons());
    let why = async |request: &str| {
        let mut client = Raw::ask(&line, request).await;
        client.headers().await;
        String::from_utf8(client.rest().await).unwrap()
    };
    let get = |more: &str| format!("GET /why HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
    assert_eq!(why(&get("")).await, "None");
    assert_eq!(why(&get("content-length: 0\r\n")).await, "None");
    assert_eq!(why(&get("content-length: 1\r\n\r\nx")).await, "Some(RequestBody)");
    assert_eq!(why(&get("transfer-encoding: chunked\r\n\r\n0\r\n\r\n")).await, "Some(RequestBody)");
    assert_eq!(why(&get("expect: 100-continue\r\n")).await, "Some(RequestBody)");
    assert_eq!(why("GET /why HTTP/1.0\r\nhost: x\r\n\r\n").await, "Some(Version)");
    assert_eq!(why(&get(&format!("cookie: {}\r\n", "a".repeat(70_000)))).await, "Some(RequestHeaders)");
}
