//! What the client sees: nothing.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{
    apps::{self, Order},
    line::Line,
};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn websocket(line: &Line, path: &str) -> WebSocketStream<UnixStream> {
    let (socket, _) = client_async(format!("ws://x{path}"), line.connect()).await.unwrap();
    socket
}

pub(super) async fn next_text<S>(socket: &mut WebSocketStream<S>) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("an answer comes in time") {
            Some(Ok(Message::Text(text))) => return text.to_string(),
            Some(Ok(Message::Pong(_))) => {}
            other => panic!("a text was expected: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_websocket_goes_from_process_to_process_and_its_client_sees_nothing() {
    for order in [Order::RequestedFirst, Order::RequestedLast] {
        let line = Line::new(move |generation| apps::echo(generation, order));
        let mut socket = websocket(&line, "/echo").await;
        for number in 1..=50 {
            socket.send(Message::Ping(vec![7].into())).await.unwrap();
            socket.send(format!("message {number}").into()).await.unwrap();
            let text = next_text(&mut socket).await;
            assert_eq!(text, format!("{} {number} message {number}", line.last()));
            line.hand_over();
            while line.open(line.last()) == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(line.moved().len(), 50);
        socket.close(None).await.unwrap();
    }
}

/// A client that reads chunks as they come.
struct Chunks {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl Chunks {
    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            let read =
                timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.expect("something comes").unwrap();
            assert!(read > 0, "the stream has ended: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    async fn chunk(&mut self) -> String {
        let len = usize::from_str_radix(&self.line().await, 16).unwrap();
        while self.unread.len() < len + 2 {
            let read =
                timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.expect("something comes").unwrap();
            assert!(read > 0);
        }
        let chunk: Vec<u8> = self.unread.drain(..len + 2).collect();
        assert!(chunk.ends_with(b"\r\n"));
        String::from_utf8(chunk[..len].to_vec()).unwrap()
    }

    async fn headers(&mut self) -> Vec<String> {
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                return headers;
            }
            headers.push(line);
        }
    }
}

#[tokio::test]
async fn a_stream_of_events_goes_on_in_each_process_without_a_gap() {
    let line = Line::new(|generation| apps::events(generation).merge(apps::hello(generation)));
    let mut stream = line.connect();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n").await.unwrap();
    let mut client = Chunks { stream, unread: Vec::new() };
    let headers = client.headers().await;
    assert!(headers.contains(&"transfer-encoding: chunked".to_owned()), "{headers:?}");
    let mut generations = std::collections::BTreeSet::new();
    for number in 1..=200 {
        let event = client.chunk().await;
        let (id, from) = event.trim_end().split_once('\n').unwrap();
        let (id, from) = if id.starts_with("id") { (id, from) } else { (from, id) };
        assert_eq!(id, format!("id: {number}"), "{event}");
        generations.insert(from.to_owned());
        if number % 4 == 0 {
            line.hand_over();
        }
    }
    assert!(generations.len() > 10, "{generations:?}");
}
