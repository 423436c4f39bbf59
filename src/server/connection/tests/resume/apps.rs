//! Services whose handlers leave.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{
        Path, Request,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::StatusCode,
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
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::yield_now,
};

use crate::{
    drain::Drain,
    handoff::Snapshot,
    resume::{LeaveReason, NotMovable, Received, Resume},
};

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
        let message = receive(&mut socket, &resume, order).await;
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

/// Says how many messages there were, when it is asked.
pub(super) fn count(_: usize, order: Order) -> Router {
    Router::new().route(
        "/count",
        get(async move |upgrade: WebSocketUpgrade, resume: Resume| -> Response {
            upgrade.on_upgrade(async move |socket| count_all(socket, resume, order).await)
        }),
    )
}

async fn count_all(mut socket: WebSocket, resume: Resume, order: Order) {
    let mut count = resume.state().map_or(0, |state| u64::from_be_bytes(state.bytes()[..].try_into().unwrap()));
    while let Some(message) = receive(&mut socket, &resume, order).await {
        match message {
            Some(Ok(Message::Text(text))) if text.as_str() == "m" => count += 1,
            Some(Ok(_)) => socket.send(count.to_string().into()).await.unwrap(),
            Some(Err(_)) | None => return,
        }
    }
    leave(socket, &resume, count).await;
}

/// What came; `None` when it is time to leave.
async fn receive(
    socket: &mut WebSocket,
    resume: &Resume,
    order: Order,
) -> Option<Option<Result<Message, axum::Error>>> {
    match order {
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
    }
}

/// Server-sent events with numbers that go on to `last`; each says which process has sent it.
pub(super) fn events(generation: usize, last: u64) -> Router {
    Router::new().route("/events", get(async move |resume: Resume| Sse::new(numbered(&resume, generation, last))))
}

fn numbered(resume: &Resume, generation: usize, last: u64) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    resume.take_until_requested(counted(resume, generation, last)).or_closing()
}

fn counted(resume: &Resume, generation: usize, last: u64) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let first = resume.state().map_or(0, |state| u64::from_be_bytes(state.bytes()[..].try_into().unwrap())) + 1;
    let saved = resume.clone();
    stream::iter(first..=last).then(move |number| {
        let saved = saved.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            saved.save(Snapshot::new(1, number.to_be_bytes().to_vec())).unwrap();
            Ok(Event::default().id(number.to_string()).data(format!("from {generation}")))
        }
    })
}

/// As [`events`], and where it cannot move it goes on to its end.
pub(super) fn download(generation: usize, last: u64) -> Router {
    let answer = async move |resume: Resume| Sse::new(resume.take_until_requested(counted(&resume, generation, last)));
    Router::new().route("/download", get(answer))
}

/// Echoes messages, and does not leave when it is asked to.
pub(super) fn ignores() -> Router {
    let echo = async move |socket: WebSocket, resume: Resume| {
        let mut socket = resume.websocket(socket);
        loop {
            let answer = match socket.recv().await {
                Received::Message(message) => message,
                Received::Leave => "leave".into(),
                Received::Close => "close".into(),
                Received::End => return,
            };
            let _ = socket.send(answer).await;
        }
    };
    Router::new().route(
        "/ignores",
        get(async move |upgrade: WebSocketUpgrade, resume: Resume| -> Response {
            upgrade.on_upgrade(move |socket| echo(socket, resume))
        }),
    )
}

/// A plain answer beside them.
pub(super) fn hello(generation: usize) -> Router {
    Router::new().route("/hello", get(async move || Body::from(format!("hello from {generation}"))))
}

/// A protocol of lines, each of which is answered. The beginning of a line goes along.
pub(super) fn lines(generation: usize) -> Router {
    Router::new().route(
        "/lines",
        get(async move |resume: Resume, mut request: Request| -> Response {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    answer_lines(TokioIo::new(upgraded), &resume, generation).await;
                }
            });
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            response.header("connection", "upgrade").header("upgrade", "lines").body(Body::empty()).unwrap()
        }),
    )
}

async fn answer_lines(mut socket: TokioIo<Upgraded>, resume: &Resume, generation: usize) {
    let mut state = resume.state().map_or_else(|| vec![0], |state| state.bytes().to_vec());
    loop {
        let mut read = [0; 100];
        tokio::select! {
            len = socket.read(&mut read) => match len {
                Ok(0) | Err(_) => return,
                Ok(len) => state.extend(&read[..len]),
            },
            () = resume.requested() => return resume.leave(socket, Snapshot::new(7, state)).await.unwrap(),
        }
        if state.ends_with(b"\r\n") {
            let (number, line) = (state[0] + 1, String::from_utf8(state.split_off(1)).unwrap());
            state[0] = number;
            socket.write_all(format!("{generation} {number} {line}").as_bytes()).await.unwrap();
        }
    }
}

/// Says why the exchange cannot move.
pub(super) fn reasons() -> Router {
    Router::new().route("/why", get(async |resume: Resume| format!("{:?}", resume.not_movable())))
}

/// Leaves as many bytes as the client has said, and answers then with what it has got.
pub(super) fn leaves_so_much(generation: usize) -> Router {
    Router::new().route(
        "/leave",
        get(async move |upgrade: WebSocketUpgrade, resume: Resume| -> Response {
            upgrade.on_upgrade(async move |socket| leave_so_much(socket, &resume, generation).await)
        }),
    )
}

async fn leave_so_much(mut socket: WebSocket, resume: &Resume, generation: usize) {
    let Some(Ok(Message::Text(text))) = socket.recv().await else { return };
    if let Some(state) = resume.state() {
        socket.send(format!("{generation} {}", state.bytes().len()).into()).await.unwrap();
        return drop(socket.recv().await);
    }
    let len = text.parse().unwrap();
    socket.send("ready".into()).await.unwrap();
    resume_requested(&mut socket, resume).await;
    let left = resume.websocket(socket).leave(Snapshot::new(1, vec![0; len])).await;
    if let Err(error) = left {
        let reason = error.reason().to_string();
        let mut socket = error.into_socket().unwrap();
        socket.send(reason.into()).await.unwrap();
        drop(socket.recv().await);
    }
}

/// Reads on until it may leave; nothing comes.
async fn resume_requested(socket: &mut WebSocket, resume: &Resume) {
    tokio::select! {
        message = socket.recv() => panic!("{message:?} comes before the handoff"),
        () = resume.requested() => {}
    }
}

/// Says Close, and then tries to leave.
pub(super) fn leaves_after_close(_: usize) -> Router {
    Router::new().route(
        "/close",
        get(async move |upgrade: WebSocketUpgrade, resume: Resume, drain: Drain| -> Response {
            upgrade.on_upgrade(async move |mut socket| {
                socket.recv().await.unwrap().unwrap();
                let frame = CloseFrame { code: close_code::RESTART, reason: "".into() };
                socket.send(Message::Close(Some(frame))).await.unwrap();
                drain.started().await;
                let error = resume.websocket(socket).leave(Snapshot::new(1, "")).await.unwrap_err();
                assert!(matches!(error.reason(), LeaveReason::NotMovable(NotMovable::Closing)), "{error}");
                let mut socket = error.into_socket().unwrap();
                while let Some(Ok(_)) = socket.recv().await {}
            })
        }),
    )
}

/// Says Close when the service ends and the connection does not move.
pub(super) fn closes(_: usize) -> Router {
    Router::new().route(
        "/closes",
        get(async move |upgrade: WebSocketUpgrade, resume: Resume| -> Response {
            upgrade.on_upgrade(async move |socket| {
                let mut socket = resume.websocket(socket);
                match socket.recv().await {
                    Received::Close => socket.close_for_restart().await,
                    other => panic!("{other:?}"),
                }
            })
        }),
    )
}

/// Leaves with one half of its stream; the other one says what became of that.
pub(super) fn keeps_a_half(_: usize) -> Router {
    Router::new().route(
        "/keep",
        get(async move |resume: Resume, mut request: Request| -> Response {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                resume.requested().await;
                let error = resume.leave_after(async { Ok(reader) }, Snapshot::new(1, "")).await.unwrap_err();
                writer.write_all(error.to_string().as_bytes()).await.unwrap();
            });
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            response.header("connection", "upgrade").header("upgrade", "x").body(Body::empty()).unwrap()
        }),
    )
}

/// As [`echo`], and each process answers with the same bytes.
pub(super) fn plain_echo() -> Router {
    Router::new().route(
        "/echo",
        get(async |upgrade: WebSocketUpgrade, resume: Resume| -> Response {
            upgrade.on_upgrade(async move |socket| {
                let mut socket = resume.websocket(socket);
                let mut count = resume.state().map_or(0, |state| state.bytes()[0]);
                loop {
                    match socket.recv().await {
                        Received::Message(message @ (Message::Text(_) | Message::Binary(_))) => {
                            count += 1;
                            let text = format!("{count} {}", message.to_text().unwrap());
                            socket.send(text.into()).await.unwrap();
                        }
                        Received::Message(_) => {}
                        Received::Leave => return socket.leave(Snapshot::new(1, vec![count])).await.unwrap(),
                        Received::Close => return socket.close_for_restart().await,
                        Received::End => return,
                    }
                }
            })
        }),
    )
}

/// So many events as the path says, without a pause; each process answers with the same bytes.
pub(super) fn quick_events() -> Router {
    Router::new().route(
        "/quick/{last}",
        get(async |resume: Resume, Path(last): Path<u64>| {
            let first = resume.state().map_or(0, |state| u64::from_be_bytes(state.bytes()[..].try_into().unwrap())) + 1;
            let saved = resume.clone();
            let events = stream::iter(first..=last).then(move |number| {
                let saved = saved.clone();
                async move {
                    for _ in 0..number % 7 {
                        yield_now().await;
                    }
                    saved.save(Snapshot::new(1, number.to_be_bytes().to_vec())).unwrap();
                    let data = "x".repeat(usize::try_from(number * 331 % 3000).unwrap());
                    Ok::<_, Infallible>(Event::default().id(number.to_string()).data(data))
                }
            });
            Sse::new(resume.take_until_requested(events).or_closing())
        }),
    )
}
