//! A client of each kind that keeps its one connection, and sees whether a handoff closes it; and a protocol that is resumed.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use axum::{
    Router,
    body::Body,
    extract::Request as ExtractedRequest,
    http::{Request, Response, StatusCode},
    routing::get,
};
use axum_activation::{handoff::Snapshot, resume::Resume};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Builder, Runtime},
};
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    http::Client,
    wait::{LIMIT, eventually},
};

/// One connection of each kind that every build serves, each of which has asked once.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) http1: Client,
    pub(crate) http2: Http2,
    pub(crate) websocket: Option<Echo>,
}

/// A connection that is upgraded to a protocol of lines, which the next process goes on with.
#[derive(Debug)]
pub(crate) struct Lines(BufReader<TcpStream>);

/// `/lines`: each line is answered with how many there were on the connection, and the process id.
pub(crate) fn routes() -> Router {
    Router::new().route("/lines", get(upgrade))
}

async fn upgrade(resume: Resume, request: ExtractedRequest) -> Response<Body> {
    tokio::spawn(answer_lines(resume, on(request)));
    let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    answer.header("connection", "upgrade").header("upgrade", "lines").body(Body::empty()).expect("a response")
}

async fn answer_lines(resume: Resume, upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = TokioIo::new(upgraded);
    let mut count = resume.state().map_or(0, |state| state.bytes()[0]);
    let mut space = [0; 1];
    loop {
        tokio::select! {
            () = resume.requested() => {
                let _ = resume.leave(socket, Snapshot::new(1, vec![count])).await;
                return;
            }
            () = resume.closing() => return,
            read = socket.read(&mut space) => match read {
                Ok(1) if space == *b"\n" => count += 1,
                Ok(1) => continue,
                _ => return,
            }
        }
        if socket.write_all(format!("{count} {}\n", process::id()).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One connection of HTTP/2.
#[derive(Debug)]
pub(crate) struct Http2 {
    runtime: Runtime,
    send: h2::client::SendRequest<Bytes>,
    has_ended: Arc<AtomicBool>,
}

/// A WebSocket to the route of `lasting.rs` that echoes, and that no next process goes on with.
#[derive(Debug)]
pub(crate) struct Echo(WebSocket<TcpStream>);

impl Http2 {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&has_ended);
        let send = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(addr).await.expect("it listens");
            stream.set_nodelay(true).expect("it is TCP");
            let (send, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
            tokio::spawn(async move {
                let _ = connection.await;
                ended.store(true, SeqCst);
            });
            send
        });
        Self { runtime, send, has_ended }
    }

    /// What is answered on this connection.
    pub(crate) fn get(&mut self, path: &str) -> Result<String, h2::Error> {
        let send = self.send.clone();
        self.runtime.block_on(async {
            let request = Request::get(format!("http://test{path}")).body(()).expect("a request");
            let (answer, _) = send.ready().await?.send_request(request, true)?;
            let mut body = answer.await?.into_body();
            let mut text = Vec::new();
            while let Some(part) = body.data().await {
                let part = part?;
                body.flow_control().release_capacity(part.len())?;
                text.extend(part);
            }
            Ok(String::from_utf8(text).expect("text"))
        })
    }

    /// Returns when the server has closed it.
    #[track_caller]
    pub(crate) fn wait_for_end(&self) {
        eventually("the end of an HTTP/2 connection", || self.has_ended.load(SeqCst));
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(SeqCst)
    }
}

impl Echo {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("it is TCP");
        let (mut socket, _) = tungstenite::client("ws://test/echo", stream).expect("it is a WebSocket");
        socket.send(Message::text("hello")).expect("it is open");
        assert_eq!(socket.read().expect("an echo"), Message::text("hello"));
        Self(socket)
    }

    /// Fails unless the server closes it with 1012, as a service does that restarts.
    #[track_caller]
    pub(crate) fn assert_closed_for_restart(mut self) {
        let closed = self.0.read().expect("a Close");
        assert!(
            matches!(&closed, Message::Close(Some(CloseFrame { code: CloseCode::Restart, .. }))),
            "it got {closed:?}"
        );
    }
}

impl Lines {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("it is TCP");
        let mut lines = Self(BufReader::new(stream));
        lines.send("GET /lines HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\n");
        assert!(lines.line().starts_with("HTTP/1.1 101 "));
        while !lines.line().trim().is_empty() {}
        lines
    }

    /// How many lines there were, and which process has answered the last.
    pub(crate) fn ask(&mut self) -> (u32, u32) {
        self.send("\n");
        let line = self.line();
        let (count, pid) = line.trim().split_once(' ').unwrap_or_else(|| panic!("it got {line:?}"));
        (count.parse().expect("a number"), pid.parse().expect("a pid"))
    }

    /// Fails unless the service closes it.
    #[track_caller]
    pub(crate) fn assert_closed(mut self) {
        assert_eq!(self.line(), "");
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("it is open");
    }

    /// Empty at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("it is open");
        line
    }
}
