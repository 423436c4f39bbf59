//! A WebSocket that echoes, and closes with code 1012 ("service restart") when the service ends.
//!
//! ```text
//! cargo run --example websocket
//! websocat ws://127.0.0.1:8080/
//! ```
//!
//! Ctrl-C, and every client gets a Close. The drain waits for their answers, and aborts the rest at its deadline.

use axum::{
    Router,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    response::Response,
    routing::get,
};
use axum_activation::{ActivatedListeners, Drain, Error, Server};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    for socket in &activated {
        println!("{socket}");
    }
    let report = Server::new(activated).serve("http", Router::new().route("/", get(upgrade))).run().await?;
    println!("{report}");
    Ok(())
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
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            // Pings and a client's Close are answered already.
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Says Close and reads on until the client has said it too.
async fn close(mut socket: WebSocket) {
    let frame = CloseFrame { code: close_code::RESTART, reason: "the service restarts".into() };
    if socket.send(Message::Close(Some(frame))).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}
