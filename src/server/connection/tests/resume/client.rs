//! Clients that write bytes by hand, and read what comes.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::line::Line;

/// Longer than anything takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A client of the `path`, which is upgraded.
pub(super) async fn websocket(line: &Line, path: &str) -> WebSocketStream<UnixStream> {
    let (socket, _) = client_async(format!("ws://x{path}"), line.connect()).await.unwrap();
    socket
}

pub(super) async fn next<S>(socket: &mut WebSocketStream<S>) -> Option<Message>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("something comes in time") {
            Some(Ok(Message::Pong(_))) => {}
            Some(Ok(message)) => return Some(message),
            Some(Err(_)) | None => return None,
        }
    }
}

pub(super) async fn next_text<S>(socket: &mut WebSocketStream<S>) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match next(socket).await {
        Some(Message::Text(text)) => text.to_string(),
        other => panic!("a text was expected: {other:?}"),
    }
}

/// A client that has what came of the server.
pub(super) struct Raw {
    pub(super) stream: UnixStream,
    pub(super) unread: Vec<u8>,
}

impl Raw {
    pub(super) fn connect(line: &Line) -> Self {
        Self { stream: line.connect(), unread: Vec::new() }
    }

    /// One that has sent `request`.
    pub(super) async fn ask(line: &Line, request: &str) -> Self {
        let mut this = Self::connect(line);
        this.write(request.as_bytes()).await;
        this
    }

    /// One that speaks WebSocket, and has sent `more` together with its request.
    pub(super) async fn upgrade(line: &Line, path: &str, more: &[u8]) -> Self {
        let mut this = Self::connect(line);
        this.write(&[websocket_request(path).as_bytes(), more].concat()).await;
        let headers = this.headers().await;
        assert!(headers[0].starts_with("HTTP/1.1 101 "), "{headers:?}");
        this
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("there is room in time").unwrap();
    }

    /// Writes all, and reads what comes meanwhile, so that neither side waits for the other. A side that has closed takes no more.
    pub(super) async fn write_and_read(&mut self, bytes: &[u8]) {
        let (mut reader, mut writer) = self.stream.split();
        let mut written = Box::pin(async move { drop(writer.write_all(bytes).await) });
        let done = timeout(PATIENCE, async {
            loop {
                tokio::select! {
                    biased;
                    () = &mut written => return,
                    read = reader.read_buf(&mut self.unread) => if read.unwrap_or(0) == 0 { return },
                }
            }
        });
        done.await.expect("it is written in time");
    }

    /// Reads more; false at the end.
    async fn read(&mut self) -> bool {
        timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.expect("something comes in time").unwrap_or(0)
            > 0
    }

    /// Everything until the server closes.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.unread)
    }

    async fn take(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            assert!(self.read().await, "it has ended: {:?}", String::from_utf8_lossy(&self.unread));
        }
        self.unread.drain(..len).collect()
    }

    /// So many bytes as text.
    pub(super) async fn take_text(&mut self, len: usize) -> String {
        String::from_utf8(self.take(len).await).unwrap()
    }

    /// The next line, without its end.
    pub(super) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(end + 2).await;
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            assert!(self.read().await, "it has ended: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// The status line and the headers.
    pub(super) async fn headers(&mut self) -> Vec<String> {
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                return headers;
            }
            headers.push(line);
        }
    }

    /// The next chunk; empty at the end of the body.
    pub(super) async fn chunk(&mut self) -> String {
        let len = usize::from_str_radix(&self.line().await, 16).unwrap();
        let chunk = self.take(len + 2).await;
        assert!(chunk.ends_with(b"\r\n"));
        String::from_utf8(chunk[..len].to_vec()).unwrap()
    }

    /// The next frame of the server: its first byte and its payload.
    pub(super) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.take(2).await;
        let len = match head[1] {
            126 => usize::from(u16::from_be_bytes(self.take(2).await.try_into().unwrap())),
            127 => usize::try_from(u64::from_be_bytes(self.take(8).await.try_into().unwrap())).unwrap(),
            len => usize::from(len),
        };
        (head[0], self.take(len).await)
    }

    pub(super) async fn text_frame(&mut self) -> String {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x81, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }
}

pub(super) fn websocket_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A frame of a client, masked.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = match payload.len() {
        len @ 0..=125 => vec![first, 0x80 | u8::try_from(len).unwrap()],
        len @ 0..=65535 => [&[first, 0x80 | 126][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
        len => [&[first, 0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

pub(super) fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}
