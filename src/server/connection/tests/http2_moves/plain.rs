//! Clients that do what most do.

use std::{future::poll_fn, sync::Arc, time::Duration};

use axum::http::Request;
use bytes::Bytes;
use h2::{
    SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use tokio::{
    net::UnixStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{handler::filling, lines::Route};
use crate::server::limits::Http2Options;

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_idle_moves_and_answers() {
    let route = Route::new(Http2Options::new());
    let mut client = connect(&route, client::Builder::new()).await;
    for _ in 0..5 {
        assert_eq!(ask(&mut client, "GET", "/size/5", b"").await.unwrap(), filling(5));
        route.moved().await;
        assert_eq!(ask(&mut client, "GET", "/size/100000", b"").await.unwrap(), filling(100_000));
        route.moved().await;
        route.moved().await;
    }
    assert_eq!(route.moves(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_served_on_until_it_is_its_turn_to_leave_and_for_a_second_at_most() {
    for is_released in [true, false] {
        let route = Route::new(Http2Options::new());
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = connect(&route, client::Builder::new()).await;
            ask(&mut client, "GET", "/size/5", b"").await.unwrap();
            clients.push(client);
        }
        let turns = Arc::clone(route.current().drain.turns());
        let all = turns.available_permits();
        let taken = Arc::clone(&turns).acquire_many_owned(all.try_into().unwrap()).await.unwrap();
        let began = Instant::now();
        route.hand_over();
        for client in &mut clients {
            assert_eq!(ask(client, "GET", "/size/5", b"").await.unwrap(), filling(5));
        }
        assert_eq!((route.moves(), began.elapsed()), (0, Duration::ZERO));
        let taken = (!is_released).then_some(taken);
        route.until(|route| route.moves() == clients.len()).await;
        assert_eq!(began.elapsed() >= Duration::from_secs(1), taken.is_some());
        drop(taken);
        assert_eq!(turns.available_permits(), all, "each has given its turn on");
        for client in &mut clients {
            assert_eq!(ask(client, "GET", "/size/5", b"").await.unwrap(), filling(5));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_overlap_with_a_move_are_answered() {
    for streams in [1, 3, 8, 40] {
        let route = Route::new(Http2Options::new());
        busy(&route, client::Builder::new(), streams, 0).await;
        busy(&route, client::Builder::new(), streams, 3000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn windows_of_any_size_move() {
    for (stream, connection) in
        [(30_000, 30_000), (65_535, 65_535), (90_000, 90_000), (90_000, 98_302), (1 << 20, 70_000)]
    {
        let options = Http2Options::new().initial_stream_window(stream).initial_connection_window(connection);
        let mut theirs = client::Builder::new();
        theirs.initial_window_size(stream).initial_connection_window_size(connection.max(65_535));
        busy(&Route::new(options), theirs, 4, 40_000).await;
    }
    busy(&Route::new(Http2Options::new().adaptive_window()), client::Builder::new(), 4, 40_000).await;
}

/// Overlapping requests with bodies of so many bytes, and a move every few milliseconds. Each response is compared.
async fn busy(route: &Route, builder: client::Builder, streams: usize, body: usize) {
    let (client, before) = (connect(route, builder).await, route.moves());
    let mut tasks = JoinSet::new();
    for stream in 0..streams {
        let mut client = client.clone();
        tasks.spawn(async move {
            for number in 0..60 {
                let sent = filling(body + number);
                let echoed = ask(&mut client, "POST", "/echo", &sent).await.unwrap();
                assert!(echoed == sent, "{} of {} bytes came back", echoed.len(), sent.len());
                sleep(Duration::from_millis(1 + stream as u64 % 3)).await;
            }
        });
    }
    let mover = tokio::spawn({
        let route = route.clone();
        async move {
            loop {
                sleep(Duration::from_millis(7)).await;
                route.hand_over();
            }
        }
    });
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    mover.abort();
    assert!(route.moves() > before, "it has not moved");
}

/// A client, whose connection is driven.
pub(super) async fn connect(route: &Route, builder: client::Builder) -> SendRequest<Bytes> {
    let stream: UnixStream = route.connect();
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap() });
    client
}

/// The body of the response.
pub(super) async fn ask(
    client: &mut SendRequest<Bytes>,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Vec<u8>, h2::Error> {
    let mut client = client.clone().ready().await?;
    let request = Request::builder().method(method).uri(format!("http://x{path}"));
    let request = request.header("x-some", path).body(()).unwrap();
    let (response, sender) = client.send_request(request, body.is_empty())?;
    // An echo comes while the request is still being sent.
    let ((), received) = tokio::try_join!(send(sender, Bytes::copy_from_slice(body)), receive(response))?;
    Ok(received)
}

async fn send(mut sender: SendStream<Bytes>, mut left: Bytes) -> Result<(), h2::Error> {
    while !left.is_empty() {
        sender.reserve_capacity(left.len());
        let room = poll_fn(|cx| sender.poll_capacity(cx)).await.expect("it is open")?;
        let chunk = left.split_to(left.len().min(room));
        sender.send_data(chunk, left.is_empty())?;
    }
    Ok(())
}

async fn receive(response: ResponseFuture) -> Result<Vec<u8>, h2::Error> {
    let mut body = response.await?.into_body();
    let mut received = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        received.extend_from_slice(&chunk);
    }
    Ok(received)
}
