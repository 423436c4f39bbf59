//! Frames that no library would send so, or only seldom.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
    time::Duration,
};

use tokio::time::sleep;

use super::{
    super::super::{
        observe::http2::frame::{self, PREFACE, code, flag, kind},
        state::{DroppedBy, State},
    },
    client::{Client, block, data, get, headers, literal, make, post},
    handler::filling,
    lines::Route,
};
use crate::{
    addr::{PeerAddr, UnixPeer},
    idle_connection::Times,
    server::limits::Http2Options,
};

fn route() -> Route {
    Route::new(Http2Options::new())
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_table_moves_again_and_again() {
    let route = route();
    let mut client = Client::connect(&route).await;
    for stream in (1..40).step_by(2) {
        assert_eq!(client.get(stream, "/size/10").await, filling(10));
        client.moved(&route).await;
    }
    assert_eq!(client.goaway, None);
    assert_eq!(route.last().0.highest_stream, 39);
}

#[tokio::test(start_paused = true)]
async fn a_connection_moves_before_its_first_request() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.moved(&route).await;
    client.moved(&route).await;
    assert_eq!(client.get(1, "/size/10").await, filling(10));
}

#[tokio::test(start_paused = true)]
async fn a_connection_does_not_move_while_a_stream_is_open() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.send(&post(1, "/wait")).await;
    client.settle().await;
    route.hand_over();
    client.settle().await;
    // The answer is complete, and the request is not.
    route.handler().go_on(1);
    client.send(&data(1, false, b"abc")).await;
    client.settle().await;
    assert_eq!(route.moves(), 0);
    client.send(&data(1, true, b"abc")).await;
    client.follow(&route, 0).await;
    assert_eq!(client.bodies[&1], b"waited");
    assert_eq!(client.goaway, None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_does_not_move_while_a_handler_has_a_body() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.send(&post(1, "/kept")).await;
    client.send(&data(1, true, &filling(100))).await;
    assert_eq!(client.body(1).await, b"kept");
    route.hand_over();
    client.settle().await;
    client.settle().await;
    assert_eq!(route.moves(), 0);
    route.handler().go_on(1);
    client.follow(&route, 0).await;
}

/// The task that looks for the preface has waited, and is another one than that of HTTP/2.
#[tokio::test]
async fn the_task_that_drives_a_connection_last_is_woken_when_its_last_answer_is_dropped() {
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let [detects, drives] = [(); 2].map(|()| Arc::new(Woken(AtomicBool::new(false))));
    let state = State::new(route().current(), PeerAddr::Unix(UnixPeer::default()), Times::now());
    for task in [&detects, &drives] {
        state.note_waker(&Arc::clone(task).into());
    }
    state.call(false, DroppedBy::Any);
    state.close_after_response();
    state.release(DroppedBy::Any);
    assert!(drives.0.load(Ordering::Relaxed) && !detects.0.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_while_new_ones_are_held_is_answered_by_the_next_process() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.send(&get(1, "/wait")).await;
    client.settle().await;
    route.hand_over();
    client.frame_where(|frame| frame.head.kind == kind::SETTINGS).await;
    client.send(&get(3, "/size/100")).await;
    client.send(&[post(5, "/echo"), data(5, false, b"abc")].concat()).await;
    sleep(Duration::from_millis(10)).await;
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    let (record, held) = route.last();
    assert_eq!(record.highest_stream, 1);
    assert!(!held.is_empty());
    assert_eq!(client.body(3).await, filling(100));
    client.send(&data(5, true, b"def")).await;
    assert_eq!(client.body(5).await, b"abcdef");
}

#[tokio::test(start_paused = true)]
async fn requests_are_held_for_a_limited_time() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.send(&get(1, "/wait")).await;
    client.settle().await;
    route.hand_over();
    client.frame_where(|frame| frame.head.kind == kind::SETTINGS).await;
    client.send(&get(3, "/size/100")).await;
    let before = tokio::time::Instant::now();
    assert_eq!(client.body(3).await, filling(100));
    assert_eq!(before.elapsed().as_millis() / 10, 5);
    // Nothing is held any more while that stream is open.
    let before = tokio::time::Instant::now();
    assert_eq!(client.get(5, "/size/100").await, filling(100));
    assert!(before.elapsed() < Duration::from_millis(5));
    assert_eq!(route.moves(), 0);
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    assert_eq!(client.goaway, None);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_acknowledge_gets_goaway() {
    let route = route();
    let mut client = Client::connect(&route).await;
    assert_eq!(client.get(1, "/").await, b"hello");
    client.acknowledges = false;
    let before = tokio::time::Instant::now();
    route.hand_over();
    client.until(|client| client.goaway.is_some()).await;
    assert_eq!(before.elapsed().as_secs(), 5);
    assert_eq!(client.goaway, Some((frame::MAX_31, code::NO_ERROR)));
    client.acknowledges = true;
    client.end().await;
    assert_eq!(route.moves(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_stream_never_ends_gets_goaway_in_time() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.send(&get(1, "/wait")).await;
    client.settle().await;
    let before = tokio::time::Instant::now();
    route.hand_over();
    client.until(|client| client.goaway.is_some()).await;
    assert_eq!(before.elapsed().as_secs(), 15, "half of the drain's limit");
    client.settle().await;
    route.handler().go_on(1);
    assert_eq!(client.body(1).await, b"waited");
    client.end().await;
    assert_eq!((route.moves(), client.goaway), (0, Some((1, code::NO_ERROR))));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_the_client_reads_slowly_is_not_cut_after_the_goaway() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.updates = false;
    client.send(&get(1, "/size/100000")).await;
    client.until(|client| client.window == 0).await;
    route.hand_over();
    client.until(|client| client.goaway.is_some()).await;
    // Longer than an idle client is waited for.
    sleep(Duration::from_secs(14)).await;
    client.settle().await;
    client.window += 100_000;
    client.send(&[frame::window_update(0, 100_000), frame::window_update(1, 100_000)].concat()).await;
    assert_eq!(client.body(1).await, filling(100_000));
    client.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_goaway_where_the_next_process_does_not_take_http2() {
    let route = Route::with(Http2Options::new(), false);
    let mut client = Client::connect(&route).await;
    assert_eq!(client.get(1, "/").await, b"hello");
    route.hand_over();
    client.end().await;
    assert_eq!((route.moves(), client.goaway), (0, Some((1, code::NO_ERROR))));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_speak_to_the_end_of_the_opening_does_not_move() {
    let route = route();
    let mut client = Client::new(&route);
    client.acknowledges = false;
    client.send(PREFACE).await;
    client.settle().await;
    route.hand_over();
    client.settle().await;
    client.send(&frame::settings([])).await;
    client.settle().await;
    assert_eq!((route.moves(), client.settings.len()), (0, 2));
    // Its acknowledgements come late, the second one alone for the size of the table.
    client.send(&frame::settings_ack()).await;
    client.settle().await;
    assert_eq!(route.moves(), 0);
    client.acknowledges = true;
    client.send(&frame::settings_ack()).await;
    client.follow(&route, 0).await;
    assert_eq!(client.get(1, "/size/10").await, filling(10));
}

#[tokio::test(start_paused = true)]
async fn a_header_block_goes_on_in_the_next_process() {
    let route = route();
    let mut client = Client::connect(&route).await;
    route.hand_over();
    let block = block("GET", "/size/77");
    let block = [&block, literal("x-long", &"x".repeat(100)).as_slice()].concat();
    let (first, rest) = block.split_at(9);
    let (second, third) = rest.split_at(20);
    client.acknowledges = false;
    client.frame_where(|frame| frame.head.kind == kind::SETTINGS).await;
    let first = headers(1, flag::END_STREAM, first);
    client.send(&[frame::settings_ack(), first].concat()).await;
    client.follow(&route, 0).await;
    client.moved_not(&route).await;
    client.send(&make(kind::CONTINUATION, 0, 1, second)).await;
    client.settle().await;
    client.send(&make(kind::CONTINUATION, flag::END_HEADERS, 1, third)).await;
    client.acknowledge_next().await;
    assert_eq!(client.body(1).await, filling(77));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_came_in_part_goes_on_in_the_next_process() {
    let request = [post(1, "/echo"), data(1, true, b"some bytes")].concat();
    for cut in 1..request.len() {
        let route = route();
        let mut client = Client::connect(&route).await;
        client.acknowledges = false;
        route.hand_over();
        client.frame_where(|frame| frame.head.kind == kind::SETTINGS).await;
        client.send(&[&frame::settings_ack(), &request[..cut]].concat()).await;
        client.follow(&route, 0).await;
        client.send(&request[cut..]).await;
        client.acknowledge_next().await;
        assert_eq!(client.body(1).await, b"some bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_hyper_has_in_part_is_waited_for() {
    let request = [post(1, "/echo"), data(1, true, b"some bytes")].concat();
    for cut in 1..request.len() {
        let route = route();
        let mut client = Client::connect(&route).await;
        client.acknowledges = false;
        client.send(&request[..cut]).await;
        client.settle().await;
        route.hand_over();
        client.settle().await;
        assert_eq!(route.moves(), 0);
        client.send(&request[cut..]).await;
        client.acknowledge().await;
        client.follow(&route, 0).await;
        assert_eq!(client.bodies[&1], b"some bytes");
        assert_eq!(client.get(3, "/size/10").await, filling(10));
    }
}
