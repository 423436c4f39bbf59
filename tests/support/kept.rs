//! A client of each kind that keeps its one connection, and sees whether a handoff closes it.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use axum::http::Request;
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    http::Client,
    wait::{LIMIT, eventually},
};

/// One connection of each kind, each of which has asked once.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) http1: Client,
    pub(crate) http2: Http2,
    pub(crate) websocket: Option<Echo>,
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
