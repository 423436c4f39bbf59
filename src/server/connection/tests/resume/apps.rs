//! Services whose handlers leave.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    response::{
        Response,
        sse::{Event, Sse},
    },
    routing::get,
};
use futures_util::{
    SinkExt,
    stream::{self, Stream, StreamExt},
};

use crate::{handoff::Snapshot, resume::Resume};

/// Where `requested()` stands in the `select!`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    RequestedFirst,
    RequestedLast,
}

/// Answers each message with the number of the process, how many there were, and the message.
pub(super) fn echo(generation: usize, order: Order) -> Router {
    Router::new().route(
        "/echo",
        get(async move |upgrade: WebSocketUpgrade, resume: Resume| -> Response {
            upgrade.on_upgrade(async move |socket| count_and_echo(socket, resume, generation, order).await)
        }),
    )
}

async fn count_and_echo(mut socket: WebSocket, resume: Resume, generation: usize, order: Order) {
    let mut count = resume.state().map_or(0, |state| u64::from_be_bytes(state.bytes()[..].try_into().unwrap()));
    loop {
        let message = match order {
            Order::RequestedFirst => tokio::select! {
                biased;
                () = resume.requested() => None,
                message = socket.recv() => Some(message),
            },
            Order::RequestedLast => tokio::select! {
                biased;
                message = socket.recv() => Some(message),
                () = resume.requested() => None,
            },
        };
        let text = match message {
            None => return leave(socket, &resume, count).await,
            Some(Some(Ok(Message::Text(text)))) => text.to_string(),
            Some(Some(Ok(Message::Binary(bytes)))) => format!("{} bytes", bytes.len()),
            Some(Some(Ok(_))) => continue,
            Some(Some(Err(_)) | None) => return,
        };
        count += 1;
        if socket.send(format!("{generation} {count} {text}").into()).await.is_err() {
            return;
        }
    }
}

async fn leave(mut socket: WebSocket, resume: &Resume, count: u64) {
    let state = Snapshot::new(1, count.to_be_bytes().to_vec());
    let flushed = async move {
        socket.flush().await.map_err(std::io::Error::other)?;
        Ok(socket)
    };
    resume.leave_after(flushed, state).await.unwrap();
}

/// Server-sent events with numbers that go on; each says which process has sent it. One comes for each permit.
pub(super) fn events(generation: usize) -> Router {
    Router::new().route("/events", get(async move |resume: Resume| Sse::new(numbered(&resume, generation))))
}

fn numbered(resume: &Resume, generation: usize) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let last = resume.state().map_or(0, |state| u64::from_be_bytes(state.bytes()[..].try_into().unwrap()));
    let saved = resume.clone();
    let events = stream::iter(last + 1..).then(move |number| {
        let saved = saved.clone();
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            saved.save(Snapshot::new(1, number.to_be_bytes().to_vec())).unwrap();
            Ok(Event::default().id(number.to_string()).data(format!("from {generation}")))
        }
    });
    resume.take_until_requested(events)
}

/// A plain answer beside them.
pub(super) fn hello(generation: usize) -> Router {
    Router::new().route("/hello", get(async move || Body::from(format!("hello from {generation}"))))
}
