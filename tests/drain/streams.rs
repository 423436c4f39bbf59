//! The examples whose responses have no end of their own, each a process with a real client: at SIGTERM they end it in order.
//!
//! Needs Debian's packages curl and util-linux.

use std::process::{Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, protocol::frame::coding::CloseCode},
};

use crate::support::{http::Client, needs, process::Process, program::Program, wait::LIMIT};

#[test]
fn server_sent_events_end_in_order() {
    let program = Program::start("sse");
    let mut client = Client::connect(program.addr()).unwrap();
    client.ask("/").unwrap();
    assert!(client.headers().unwrap().1.contains("content-type: text/event-stream"));
    assert_eq!(client.chunk().unwrap().as_deref(), Some("data: tick\nid: 1\n\n"));
    program.terminate();
    let mut last = String::new();
    while let Some(chunk) = client.chunk().unwrap() {
        last = chunk;
    }
    assert!(last.starts_with("event: bye\n"), "{last}");
    drop(client);
    assert_clean(&program.ended(), 1);
}

#[tokio::test]
async fn a_web_socket_is_closed_as_for_a_restart() {
    let program = Program::start("websocket");
    let mut client = upgraded(&program).await;
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(next(&mut client).await, Some(Message::text("hello")));
    program.terminate();
    let Some(Message::Close(Some(close))) = next(&mut client).await else { panic!("no close frame") };
    assert_eq!(close.code, CloseCode::Restart);
    assert_eq!(next(&mut client).await, None, "and then the connection ends in order");
    assert_clean(&program.ended(), 1);
}

#[test]
fn a_long_poll_is_answered() {
    let program = Program::start("long_poll");
    let (mut client, mut witness) =
        (Client::connect(program.addr()).unwrap(), Client::connect(program.addr()).unwrap());
    client.ask("/").unwrap();
    let mut asked = 1;
    while witness.get("/waiting").unwrap().text() != "1\n" {
        asked += 1;
    }
    drop(witness);
    program.terminate();
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.says_close()), (204, true));
    client.assert_closed();
    assert_clean(&program.ended(), asked + 1);
}

#[test]
fn graceful_shows_it_all() {
    needs::program("curl", "curl");
    let program = Program::start("graceful");
    let addr = program.addr();
    assert_eq!(program.process.line(), "a page is written");
    let mut events = Command::new("curl");
    events.args(["-sSN", "--max-time", "30"]).arg(format!("http://{addr}/events"));
    let events = Process::start(events.stdout(Stdio::piped()));
    assert_eq!(events.line(), "data: tick");
    let mut client = Client::connect(addr).unwrap();
    assert_eq!(client.get("/ready").unwrap().status, 200);
    let stats = client.get("/stats").unwrap().text().to_owned();
    for part in [r#"name: "http", accepted: 2, "#, "open: 2, requests: 1, in_flight: 2"] {
        assert!(stats.contains(part), "{stats}");
    }

    program.terminate();
    // curl fails unless the body came to its end.
    events.finish();
    // The lame duck still takes connections, and tells them that it is not ready.
    let (mut another, answer) = (Client::connect(addr).unwrap(), client.get("/").unwrap());
    assert_eq!((answer.text(), answer.says_close()), ("hello\n", true));
    let ready = another.get("/ready").unwrap();
    assert_eq!((ready.status, ready.says_close()), (503, true));
    let said = program.ended();
    assert!(said.starts_with("the last page is written\n"), "{said}");
    assert_clean(&said, 5);
}

#[test]
fn plain_axum_serve_lets_an_idle_client_send_one_more_request() {
    let program = Program::start("axum_drain");
    let (mut client, mut silent) = (Client::connect(program.addr()).unwrap(), Client::connect(program.addr()).unwrap());
    for client in [&mut client, &mut silent] {
        assert_eq!(client.get("/ready").unwrap().status, 200);
    }
    program.terminate();
    while !client.get("/ready").unwrap().says_close() {}
    client.assert_closed();
    silent.assert_closed();
    assert!(program.ended().starts_with("drained in 1."));
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
        timeout(LIMIT, client.next()).await.expect("it does not hang");
    message.map(|message| message.expect("no error"))
}
