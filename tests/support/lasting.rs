//! Routes whose responses have no end of their own: they end with the drain's token.

use std::convert::Infallible;

use axum::{
    Router,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    response::{
        Response,
        sse::{Event, Sse},
    },
    routing::get,
};
use axum_activation::Drain;
use futures_util::stream::{self, Stream, StreamExt};

pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/events", get(events)).route("/echo", get(upgrade))
}

/// One event, and one more at the end.
async fn events(drain: Drain) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let first = stream::iter([Event::default().data("hello")]).chain(stream::pending());
    Sse::new(drain.take_until_drain(first).chain(stream::iter([Event::default().data("bye")])).map(Ok))
}

async fn upgrade(upgrade: WebSocketUpgrade, drain: Drain) -> Response {
    upgrade.on_upgrade(|socket| echo(socket, drain))
}

async fn echo(mut socket: WebSocket, drain: Drain) {
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            () = drain.started() => return close(socket).await,
        };
        match message {
            Some(Ok(message @ Message::Text(_))) if socket.send(message.clone()).await.is_ok() => {}
            Some(Ok(Message::Ping(_))) => {}
            _ => return,
        }
    }
}

async fn close(mut socket: WebSocket) {
    let frame = CloseFrame { code: close_code::RESTART, reason: "the service restarts".into() };
    if socket.send(Message::Close(Some(frame))).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}
