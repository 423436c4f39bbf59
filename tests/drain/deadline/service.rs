//! Handlers that do what a drain has to cope with.

use std::{
    convert::Infallible,
    future::pending,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    routing::{get, post},
};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::Semaphore;

/// More than the kernel buffers between two sockets.
pub(crate) const BIG: usize = 64 << 20;

/// Handlers that wait at it go on when it is opened for them.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets one through.
    pub(crate) fn open(&self) {
        self.0.add_permits(1);
    }

    pub(crate) async fn pass(&self) {
        self.0.acquire().await.expect("never closed").forget();
    }
}

/// Everything but a gate.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/", get("hello"))
        .route("/echo", post(async |body: Bytes| body))
        .route("/stuck", get(async || pending::<()>().await))
        .route("/panic", get(async || -> &str { panic!("a handler that panics on purpose") }))
        .route("/endless", get(async || Body::new(Endless { started: false })))
        .route("/big", get(async || vec![b'x'; BIG]))
        .route("/chunks", get(async || Body::new(Chunks { left: BIG / CHUNK })))
        .route("/reject", post(async || (StatusCode::PAYLOAD_TOO_LARGE, vec![b'x'; 200_000])))
}

/// `/gate` waits at the gate.
pub(crate) fn gated(gate: &Gate) -> Router {
    let gate = gate.clone();
    let handler = async move || {
        gate.pass().await;
        "passed"
    };
    routes().route("/gate", get(handler))
}

/// Says one thing and never another.
struct Endless {
    started: bool,
}

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match std::mem::replace(&mut self.started, true) {
            false => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"for ever"))))),
            true => Poll::Pending,
        }
    }
}

const CHUNK: usize = 1 << 16;

/// A big body in small pieces.
struct Chunks {
    left: usize,
}

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static ZEROS: [u8; CHUNK] = [0; CHUNK];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS)))))
    }
}
