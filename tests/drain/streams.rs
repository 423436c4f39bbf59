//! The examples whose responses have no end of their own, each a process with a real client: at SIGTERM they end it in order.
//!
//! Needs Debian's packages curl and util-linux.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, protocol::frame::coding::CloseCode},
};

use crate::support::{
    async_wire::{self, Wire},
    needs,
    program::Program,
};

/// Within this time of the signal a stream has ended.
const AT_ONCE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn server_sent_events_end_in_order() {
    at_once(async || {
        let program = Program::start("sse");
        let mut client = Wire::connect(program.addr()).unwrap();
        client.send("GET", "/").await.unwrap();
        assert!(client.head().await.unwrap().contains("content-type: text/event-stream"));
        assert_eq!(client.chunk().await.unwrap().as_deref(), Some("data: tick\n\n"));
        let signalled = program.terminate();
        let mut last = String::new();
        while let Some(chunk) = client.chunk().await.unwrap() {
            last = chunk;
        }
        let took = signalled.elapsed();
        assert!(last.starts_with("event: bye\n"), "{last}");
        drop(client);
        assert_clean(&program.ended(), 1);
        took
    })
    .await;
}

#[tokio::test]
async fn a_web_socket_is_closed_as_for_a_restart() {
    at_once(async || {
        let program = Program::start("websocket");
        let mut client = upgraded(&program).await;
        client.send(Message::text("hello")).await.unwrap();
        assert_eq!(next(&mut client).await, Some(Message::text("hello")));
        let signalled = program.terminate();
        let Some(Message::Close(Some(close))) = next(&mut client).await else { panic!("no close frame") };
        let took = signalled.elapsed();
        assert_eq!(close.code, CloseCode::Restart);
        assert_eq!(next(&mut client).await, None, "and then the connection ends in order");
        assert_clean(&program.ended(), 1);
        took
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_is_answered() {
    at_once(async || {
        let program = Program::start("long_poll");
        let (mut client, mut witness) =
            (Wire::connect(program.addr()).unwrap(), Wire::connect(program.addr()).unwrap());
        client.send("GET", "/").await.unwrap();
        let mut asked = 1;
        while witness.get("/waiting").await.unwrap().body != "1\n" {
            asked += 1;
        }
        drop(witness);
        let signalled = program.terminate();
        let answer = client.answer().await.unwrap();
        let took = signalled.elapsed();
        assert_eq!((answer.status, answer.is_last()), (204, true));
        client.closed().await.unwrap();
        assert_clean(&program.ended(), asked + 1);
        took
    })
    .await;
}

#[tokio::test]
async fn graceful_shows_it_all() {
    needs::program("curl", "curl");
    let mut program = Program::start("graceful");
    let addr = program.addr();
    assert_eq!(program.line(), "a page is written\n");
    let mut events = Command::new("curl");
    events.args(["-sSN", "--max-time", "30"]).arg(format!("http://{addr}/events"));
    let mut events = events.stdout(Stdio::piped()).spawn().unwrap();
    let mut ticks = BufReader::new(events.stdout.take().unwrap());
    let mut line = String::new();
    ticks.read_line(&mut line).unwrap();
    assert_eq!(line, "data: tick\n");
    let mut client = Wire::connect(addr).unwrap();
    assert_eq!(client.get("/ready").await.unwrap().status, 200);
    let stats = client.get("/stats").await.unwrap().body;
    assert!(stats.contains(r#"name: "http", accepted: 2, open: 2, requests: 1, in_flight: 2"#), "{stats}");

    program.terminate();
    // curl fails unless the body came to its end.
    ticks.read_to_string(&mut line).unwrap();
    assert!(events.wait().unwrap().success());
    // The lame duck still takes connections, and tells them that it is not ready.
    let (mut another, answer) = (Wire::connect(addr).unwrap(), client.get("/").await.unwrap());
    assert_eq!((answer.body.as_str(), answer.is_last()), ("hello\n", true));
    let ready = another.get("/ready").await.unwrap();
    assert_eq!((ready.status, ready.is_last()), (503, true));
    let said = program.ended();
    assert!(said.starts_with("the last page is written\n"), "{said}");
    assert_clean(&said, 5);
}

#[tokio::test]
async fn plain_axum_serve_lets_an_idle_client_send_one_more_request() {
    let program = Program::start("axum_drain");
    let (mut client, mut silent) = (Wire::connect(program.addr()).unwrap(), Wire::connect(program.addr()).unwrap());
    for client in [&mut client, &mut silent] {
        assert_eq!(client.get("/ready").await.unwrap().status, 200);
    }
    program.terminate();
    while !client.get("/ready").await.unwrap().is_last() {}
    client.closed().await.unwrap();
    silent.closed().await.unwrap();
    assert!(program.ended().starts_with("drained in 1."));
}

/// Fails unless one of a few runs takes no time: a busy machine delays one, a timer would delay each.
async fn at_once(run: impl AsyncFn() -> Duration) {
    let mut took = Vec::new();
    for _ in 0..5 {
        took.push(run().await);
        if took.last() <= Some(&AT_ONCE) {
            return;
        }
    }
    panic!("not one of {took:?} is within {AT_ONCE:?}");
}

/// Fails unless the report says that all was served and nothing was aborted.
#[track_caller]
fn assert_clean(said: &str, requests: usize) {
    let report = said.lines().last().unwrap_or_default();
    assert!(report.starts_with("drained in "), "{said}");
    assert!(report.contains(&format!("; http: {requests} requests, ")), "{report}");
    assert!(report.ends_with(" 0 errors, 0 aborted"), "{report}");
}

async fn upgraded(program: &Program) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(program.addr()).await.expect("it listens");
    let (client, _) = client_async("ws://test/", stream).await.expect("it upgrades");
    client
}

/// The next message; `None` at an end in order.
async fn next(client: &mut WebSocketStream<TcpStream>) -> Option<Message> {
    let message: Option<Result<Message, tungstenite::Error>> =
        timeout(async_wire::PATIENCE, client.next()).await.expect("it does not hang");
    message.map(|message| message.expect("no error"))
}
