//! Clients that send without end while new streams are held: nothing grows, nothing hangs, and the connection goes on or ends.

use super::{
    super::super::observe::http2::frame::{self, code, flag, kind},
    client::{Client, block, get, headers, holding, make, post},
    handler::filling,
    lines::Route,
};

/// Sends these frames while new streams are held, and a request after them. What it is answered with, if it is.
async fn flood(frames: impl Fn(u32) -> Vec<u8>, count: u32) -> (Route, Client, Option<Vec<u8>>) {
    let (route, mut client) = holding().await;
    for number in 0..count {
        // Some clients do not read meanwhile; these do, or both would wait for the other.
        client.send(&frames(number)).await;
        if number % 50 == 0 {
            client.settle().await;
        }
    }
    client.send(&get(1_000_001, "/size/10")).await;
    route.handler().go_on(1);
    while client.goaway.is_none_or(|(_, code)| code == code::NO_ERROR) && !client.bodies.contains_key(&1_000_001) {
        if client.frame().await.is_none() {
            break;
        }
    }
    let body = client.bodies.get(&1_000_001).cloned();
    (route, client, body)
}

#[tokio::test(start_paused = true)]
async fn settings_without_end() {
    let (_, client, body) = flood(|number| frame::settings([(4, 65_535 + number)]), 1000).await;
    assert_eq!((body, client.goaway), (Some(filling(10)), None));
}

#[tokio::test(start_paused = true)]
async fn pings_without_end() {
    let (_, client, body) = flood(|number| make(kind::PING, 0, 0, &u64::from(number).to_be_bytes()), 1000).await;
    assert_eq!((body, client.goaway), (Some(filling(10)), None));
}

#[tokio::test(start_paused = true)]
async fn window_updates_without_end() {
    let (_, client, body) = flood(|_| frame::window_update(0, 1), 1000).await;
    assert_eq!((body, client.goaway), (Some(filling(10)), None));
    // hyper says so where it is too much.
    let (_, client, body) = flood(|_| frame::window_update(0, frame::MAX_31), 2).await;
    assert_eq!((body, client.goaway.unwrap().1), (None, 3));
}

#[tokio::test(start_paused = true)]
async fn resets_without_end() {
    let pair = |number: u32| [post(3 + 2 * number, "/echo"), frame::rst_stream(3 + 2 * number, code::CANCEL)].concat();
    // hyper takes many of them in a row to be an attack, also when they were held.
    let (_, client, body) = flood(pair, 2000).await;
    assert!(body == Some(filling(10)) || client.goaway.unwrap().1 == 11, "{:?}", client.goaway);
}

#[tokio::test(start_paused = true)]
async fn resets_of_one_stream_without_end() {
    let (_, client, body) = flood(|_| frame::rst_stream(3, code::CANCEL), 1000).await;
    // It was never opened.
    assert_eq!((body, client.goaway.unwrap().1), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn continuations_without_end() {
    let (_, client, body) = flood(
        |number| match number {
            0 => headers(3, flag::END_STREAM, &block("GET", "/")),
            _ => make(kind::CONTINUATION, 0, 3, b""),
        },
        1000,
    )
    .await;
    assert_eq!((body, client.goaway.unwrap().1), (None, 11));
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_not_known_without_end() {
    let (_, client, body) = flood(|number| make(0xee, 0, number, &[0; 1000]), 1000).await;
    assert_eq!((body, client.goaway), (Some(filling(10)), None));
}
