//! Flow control in both directions, at every state that it can have at a move.

use super::{
    super::super::observe::http2::frame::{self, code, flag, kind},
    client::{Client, block, data, get, headers, holding, post},
    handler::filling,
    lines::Route,
};
use crate::server::limits::Http2Options;

fn route() -> Route {
    Route::new(Http2Options::new())
}

/// A client whose window on the connection is used up, on a connection that has moved so.
async fn exhausted(route: &Route) -> Client {
    let mut client = Client::connect_with(route, &[(4, 1 << 20)]).await;
    client.updates = false;
    assert_eq!(client.get(1, "/size/65535").await, filling(65_535));
    client.moved(route).await;
    assert_eq!((client.window, route.last().0.send_window), (0, 0));
    client
}

#[tokio::test(start_paused = true)]
async fn data_waits_for_a_window_that_was_at_0() {
    let route = route();
    let mut client = exhausted(&route).await;
    client.send(&get(3, "/size/1000")).await;
    client.settle().await;
    assert!(!client.bodies.contains_key(&3));
    for part in 1..10 {
        client.update(100).await;
        client.settle().await;
        assert_eq!(client.bodies[&3].len(), part * 100);
    }
    client.update(100).await;
    assert_eq!(client.body(3).await, filling(1000));
    client.moved(&route).await;
    client.update(70_000).await;
    assert_eq!(client.get(5, "/size/70000").await, filling(70_000));
    client.update(100_000).await;
    client.moved(&route).await;
    assert_eq!(route.last().0.send_window, 100_000);
    assert_eq!(client.get(7, "/size/100000").await, filling(100_000));
}

#[tokio::test(start_paused = true)]
async fn a_connection_does_not_move_while_data_waits() {
    let route = route();
    let mut client = exhausted(&route).await;
    client.send(&get(3, "/size/1000")).await;
    client.settle().await;
    client.moved_not(&route).await;
    client.update(500).await;
    client.settle().await;
    let before = route.moves();
    client.update(600).await;
    client.follow(&route, before).await;
    assert_eq!(client.body(3).await, filling(1000));
    assert_eq!(route.last().0.send_window, 100);
}

#[tokio::test(start_paused = true)]
async fn trailers_wait_behind_data_and_other_streams_do_not() {
    let route = route();
    let mut client = exhausted(&route).await;
    client.send(&get(3, "/trailers/300")).await;
    client.send(&headers(5, flag::END_HEADERS | flag::END_STREAM, &block("HEAD", "/size/10"))).await;
    client.body(5).await;
    client.update(299).await;
    client.settle().await;
    assert_eq!(client.bodies[&3].len(), 299);
    let blocks = client.blocks.len();
    client.update(1).await;
    assert_eq!(client.body(3).await, filling(300));
    assert_eq!(client.blocks.len(), blocks + 1);
}

#[tokio::test(start_paused = true)]
async fn data_of_a_stream_that_is_reset_does_not_wait() {
    let route = route();
    let mut client = exhausted(&route).await;
    client.send(&[get(3, "/size/5000"), get(5, "/size/1000")].concat()).await;
    client.settle().await;
    client.update(100).await;
    client.settle().await;
    client.send(&frame::rst_stream(3, code::CANCEL)).await;
    client.update(1000).await;
    assert_eq!(client.body(5).await, filling(1000));
    client.update(200_000).await;
    assert_eq!(client.get(7, "/size/200000").await, filling(200_000));
    client.moved(&route).await;
    assert_eq!(i64::from(route.last().0.send_window), client.window);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_updates_its_window_only_when_it_is_used_up() {
    let route = route();
    let mut client = Client::connect_with(&route, &[(4, 1 << 20)]).await;
    client.updates = false;
    for stream in (1..31).step_by(2) {
        client.send(&get(stream, "/size/30000")).await;
        while client.bodies.get(&stream).is_none_or(|body| body.len() < 30_000) {
            client.frame().await.unwrap();
            if client.window == 0 {
                client.update(65_535).await;
            }
        }
        assert_eq!(client.body(stream).await, filling(30_000));
        client.moved(&route).await;
        assert_eq!(i64::from(route.last().0.send_window), client.window);
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_of_streams_may_change_while_new_ones_are_held() {
    let (route, mut client) = holding().await;
    client.updates = false;
    client.send(&[get(3, "/size/1000"), frame::settings([(4, 100)]), get(5, "/size/1000")].concat()).await;
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    client.settle().await;
    assert_eq!((client.bodies[&3].len(), client.bodies[&5].len()), (100, 100));
    client.send(&[frame::window_update(3, 900), frame::settings([(4, 1000)])].concat()).await;
    assert_eq!((client.body(3).await, client.body(5).await), (filling(1000), filling(1000)));
}

#[tokio::test(start_paused = true)]
async fn an_upload_has_the_whole_window_after_a_move() {
    for (stream_window, window) in [(30_000, 30_000), (65_535, 65_535), (90_000, 90_000), (1 << 20, 1 << 20)] {
        let options = Http2Options::new().initial_stream_window(stream_window).initial_connection_window(window);
        let route = Route::new(options);
        let mut client = Client::connect(&route).await;
        for stream in (1..13).step_by(2) {
            client.send(&post(stream, "/length")).await;
            let mut left = 40_000;
            let mut room = i64::from(stream_window);
            while left > 0 {
                let size = left.min(10_000).min(room).min(client.server_window);
                if size == 0 {
                    let frame = client.frame().await.unwrap();
                    if frame.head.kind == kind::WINDOW_UPDATE && frame.head.stream == stream {
                        room += i64::from(u32::from_be_bytes(frame.payload[..4].try_into().unwrap()));
                    }
                    continue;
                }
                (left, room) = (left - size, room - size);
                client.server_window -= size;
                client.send(&data(stream, left == 0, &filling(usize::try_from(size).unwrap()))).await;
            }
            assert_eq!(client.body(stream).await, b"40000");
            client.moved(&route).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn data_that_is_held_counts_against_the_window_once() {
    let (route, mut client) = holding().await;
    client
        .send(&[post(3, "/length"), data(3, false, &filling(10_000)), data(3, true, &filling(10_000))].concat())
        .await;
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    assert_eq!(client.body(3).await, b"20000");
    client.moved(&route).await;
    client.settle().await;
    // The client was allowed 1 MiB at first; with what it has sent since it is as much again.
    assert_eq!(client.server_window, (1 << 20) + 20_000);
}
