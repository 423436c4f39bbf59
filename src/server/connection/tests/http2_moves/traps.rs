//! What clients may do that is no everyday business, and what they may not do.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, time::sleep};

use super::{
    super::super::observe::http2::frame::{self, MAX_31, code, flag, kind},
    client::{Client, block, data, get, headers, holding, literal, make, post},
    handler::filling,
    lines::Route,
};
use crate::server::limits::Http2Options;

fn route() -> Route {
    Route::new(Http2Options::new())
}

/// HEADERS with padding and a priority.
fn padded(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let payload = [&[7, 0, 0, 0, 0, 16], block, &[0xbe; 7]].concat();
    headers(stream, flags | flag::PADDED | flag::PRIORITY | flag::END_HEADERS, &payload)
}

#[tokio::test(start_paused = true)]
async fn padding_and_priority_pass() {
    let (route, mut client) = holding().await;
    client.send(&padded(3, flag::END_STREAM, &block("GET", "/size/50"))).await;
    client.send(&padded(5, 0, &block("POST", "/echo"))).await;
    client.send(&make(kind::DATA, flag::PADDED, 5, &[&[3], &b"abc"[..], &[0; 3]].concat())).await;
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    client.send(&make(kind::DATA, flag::PADDED | flag::END_STREAM, 5, &[&[9], &b"def"[..], &[0; 9]].concat())).await;
    assert_eq!(client.body(3).await, filling(50));
    assert_eq!(client.body(5).await, b"abcdef");
    client.moved(&route).await;
    assert_eq!(client.get(7, "/size/10").await, filling(10));
}

#[tokio::test(start_paused = true)]
async fn frames_that_mean_nothing_pass_wherever_they_stand() {
    let odd = |stream: u32| {
        let priority = make(kind::PRIORITY, 0, stream.max(1), &[0, 0, 0, 0, 3]);
        // PRIORITY_UPDATE (RFC 9218), and one that nothing is known of.
        let update = make(0x10, 0, 0, &[&stream.to_be_bytes(), &b"u=1"[..]].concat());
        [priority, update, make(0xee, 0xff, stream, b"something")].concat()
    };
    let (route, mut client) = holding().await;
    client.send(&[odd(0), odd(1), get(3, "/size/20"), odd(3), odd(5), odd(1)].concat()).await;
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    client.send(&[odd(0), odd(1), odd(3), odd(9)].concat()).await;
    assert_eq!(client.body(3).await, filling(20));
    for _ in 0..3 {
        client.moved(&route).await;
        client.send(&[odd(0), odd(1), odd(3), odd(9)].concat()).await;
    }
    assert_eq!(client.get(11, "/size/10").await, filling(10));
}

#[tokio::test(start_paused = true)]
async fn the_highest_stream_there_is_moves() {
    let (route, mut client) = holding().await;
    client.send(&get(MAX_31, "/size/20")).await;
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    assert_eq!(client.body(MAX_31).await, filling(20));
    client.moved(&route).await;
    client.moved(&route).await;
    client.send(&make(kind::PING, 0, 0, b"are you?")).await;
    client.frame_where(|frame| frame.head.kind == kind::PING && frame.payload == b"are you?").await;
    assert_eq!(route.last().0.highest_stream, MAX_31);
}

#[tokio::test(start_paused = true)]
async fn streams_that_were_held_and_cancelled_are_no_attack() {
    let (route, mut client) = holding().await;
    for stream in (3..53).step_by(2) {
        client.send(&[post(stream, "/echo"), data(stream, false, b"abc")].concat()).await;
        client.send(&frame::rst_stream(stream, code::CANCEL)).await;
    }
    sleep(Duration::from_millis(5)).await;
    client.send(&get(53, "/size/9")).await;
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    assert_eq!(client.body(53).await, filling(9));
    client.settle().await;
    // What was swallowed may be sent again.
    assert_eq!(client.server_window, 1 << 20 | 75);
    client.moved(&route).await;
    assert_eq!(client.get(55, "/size/10").await, filling(10));
}

#[tokio::test(start_paused = true)]
async fn streams_that_were_held_and_cancelled_alone_are_old() {
    let (route, mut client) = holding().await;
    client.send(&[post(9, "/echo"), frame::rst_stream(9, code::CANCEL)].concat()).await;
    sleep(Duration::from_millis(5)).await;
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    assert_eq!(route.last().0.highest_stream, 9);
    client.send(&frame::window_update(9, 5)).await;
    assert_eq!(client.get(11, "/size/10").await, filling(10));
}

#[tokio::test(start_paused = true)]
async fn many_small_frames_of_data_are_no_attack() {
    let (route, mut client) = holding().await;
    client.send(&post(3, "/length")).await;
    let small: Vec<_> = (0..3000).flat_map(|number| data(3, number == 2999, b"x")).collect();
    client.send(&small).await;
    route.handler().go_on(1);
    assert_eq!(client.body(3).await, b"3000");
    assert_eq!(client.goaway, None);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_streams_that_are_held_are_answered() {
    let (route, mut client) = holding().await;
    for stream in (3..403).step_by(2) {
        client.send(&get(stream, "/size/30")).await;
    }
    sleep(Duration::from_millis(5)).await;
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    for stream in (3..403).step_by(2) {
        assert_eq!(client.body(stream).await, filling(30), "{stream}");
    }
    assert!(client.resets.is_empty(), "{:?}", client.resets);
}

#[tokio::test(start_paused = true)]
async fn a_header_block_that_is_interrupted_is_an_error_wherever_it_is() {
    let (route, mut client) = holding().await;
    let block = block("GET", "/size/20");
    let first = headers(3, flag::END_STREAM, &block[..4]);
    let rest = make(kind::CONTINUATION, flag::END_HEADERS, 3, &block[4..]);
    client.send(&[first, frame::settings([(4, 100)]), rest].concat()).await;
    client.end().await;
    assert_eq!((client.goaway, route.moves()), (Some((1, 1)), 0));
}

#[tokio::test(start_paused = true)]
async fn headers_of_an_old_stream_are_an_error_once_the_client_knows_better() {
    for (first, code) in [(1, code::STREAM_CLOSED), (3, code::STREAM_CLOSED)] {
        let route = route();
        let mut client = Client::connect(&route).await;
        assert_eq!(client.get(1, "/").await, b"hello");
        assert_eq!(client.get(3, "/").await, b"hello");
        client.moved(&route).await;
        client.settle().await;
        client.send(&headers(first, flag::END_HEADERS | flag::END_STREAM, &block("GET", "/"))).await;
        client.end().await;
        assert_eq!(client.goaway, Some((3, code)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_old_stream_still_sends_is_swallowed() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.send(&post(1, "/early")).await;
    assert_eq!(client.body(1).await, b"early");
    client.until(|client| !client.resets.is_empty()).await;
    let window = client.server_window;
    client.acknowledges = false;
    route.hand_over();
    client.until(|client| client.settings.len() == 2).await;
    client.send(&frame::settings_ack()).await;
    client.until(|client| client.settings.len() == 3).await;
    // The client has not heard yet of the reset: the rest of the body, and trailers in two frames.
    for _ in 0..20 {
        client.send(&data(1, false, &filling(16_000))).await;
        client.settle().await;
    }
    let trailers = literal("x-sum", "1");
    client.send(&headers(1, flag::END_STREAM, &trailers[..3])).await;
    client.send(&make(kind::CONTINUATION, flag::END_HEADERS, 1, &trailers[3..])).await;
    client.send(&[frame::rst_stream(1, code::CANCEL), frame::window_update(1, 10)].concat()).await;
    client.acknowledge_next().await;
    assert_eq!(client.get(3, "/size/10").await, filling(10));
    client.settle().await;
    assert_eq!(client.server_window - window, 20 * 16_000, "it may send as much again");
    client.moved(&route).await;
    assert_eq!(client.get(5, "/size/10").await, filling(10));
}

#[tokio::test(start_paused = true)]
async fn a_trailer_that_would_fill_the_table_unseen_sends_the_client_away() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.send(&post(1, "/early")).await;
    assert_eq!(client.body(1).await, b"early");
    client.until(|client| !client.resets.is_empty()).await;
    client.acknowledges = false;
    route.hand_over();
    client.until(|client| client.settings.len() == 2).await;
    client.send(&frame::settings_ack()).await;
    client.until(|client| client.settings.len() == 3).await;
    let indexed = [&[0x40], &literal("x-sum", "1")[1..]].concat();
    client.send(&headers(1, flag::END_STREAM | flag::END_HEADERS, &indexed)).await;
    client.end().await;
    assert_eq!(client.goaway, Some((1, code::NO_ERROR)));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_true_sends_the_client_away() {
    let tampers: [fn(&mut crate::idle_connection::Http2Record); 5] = [
        |record| record.own_settings.clear(),
        |record| record.client_settings.push((9, 1)),
        |record| record.send_window = u32::MAX,
        |record| record.own_settings.retain(|(id, _)| *id != 5),
        |record| record.highest_stream = 4,
    ];
    for tamper in tampers {
        let route = route();
        let mut client = Client::connect(&route).await;
        assert_eq!(client.get(1, "/").await, b"hello");
        route.tamper(tamper);
        route.hand_over();
        client.end().await;
        let (last, code) = client.goaway.unwrap();
        assert_eq!((last.min(4), code), (if last == 4 { 4 } else { 1 }, code::NO_ERROR));
    }
}

#[tokio::test(start_paused = true)]
async fn settings_stay_as_agreed_and_only_greater_ones_are_announced() {
    let route = Route::new(Http2Options::new().initial_stream_window(100_000));
    let mut client = Client::connect(&route).await;
    route.set_options(Http2Options::new().initial_stream_window(50_000).max_concurrent_streams(1));
    // That of the route which accepted is still the one before.
    route.hand_over();
    client.follow(&route, 0).await;
    client.moved(&route).await;
    client.settle().await;
    assert_eq!(client.settings.last().unwrap(), &[(1, 4096)]);
    route.set_options(Http2Options::new().initial_stream_window(300_000).max_header_list_size(20_000));
    client.moved(&route).await;
    client.moved(&route).await;
    client.settle().await;
    let announced = client.settings.iter().find(|values| values.len() > 1 && values[0].0 == 1);
    assert_eq!(announced.unwrap(), &[(1, 4096), (4, 300_000), (6, 20_000)]);
    assert_eq!(client.settings.last().unwrap(), &[(1, 4096)]);
    client.send(&post(1, "/length")).await;
    for _ in 0..20 {
        client.send(&data(1, false, &filling(14_900))).await;
    }
    client.send(&data(1, true, &[0; 2000])).await;
    assert_eq!(client.body(1).await, b"300000");
}

#[tokio::test(start_paused = true)]
async fn an_extended_connect_does_not_move() {
    let route = route();
    let mut client = Client::connect(&route).await;
    let block =
        [literal(":method", "CONNECT"), literal(":protocol", "websocket"), vec![0x86], literal(":path", "/wait")];
    let block = [block.concat(), literal(":authority", "x")].concat();
    client.send(&headers(1, flag::END_HEADERS, &block)).await;
    client.settle().await;
    client.moved_not(&route).await;
    assert_eq!(client.get(3, "/size/10").await, filling(10));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_its_side_does_not_move() {
    let (route, mut client) = holding().await;
    client.send(&[get(3, "/size/70"), get(5, "/size/80")].concat()).await;
    client.stream.shutdown().await.unwrap();
    (client.acknowledges, client.updates) = (false, false);
    client.end().await;
    assert_eq!(route.moves(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_itself_does_not_move() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.send(&get(1, "/wait")).await;
    client.send(&frame::goaway(0, code::NO_ERROR)).await;
    client.settle().await;
    client.moved_not(&route).await;
    route.handler().go_on(1);
    assert_eq!(client.body(1).await, b"waited");
    client.end().await;
    assert_eq!(route.moves(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_too_long_is_answered_by_hyper() {
    let (route, mut client) = holding().await;
    client.send(&data(3, false, &filling(16_385))).await;
    client.end().await;
    assert_eq!((client.goaway.unwrap().1, route.moves()), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_at_every_step() {
    let (route, mut client) = holding().await;
    for text in [b"while --", b"new ones", b"are held"] {
        client.send(&make(kind::PING, 0, 0, text)).await;
        client.frame_where(|frame| frame.head.kind == kind::PING && frame.payload == text).await;
    }
    route.handler().go_on(1);
    client.follow(&route, 0).await;
    client.send(&make(kind::PING, 0, 0, b"and then")).await;
    client.frame_where(|frame| frame.head.kind == kind::PING && frame.payload == b"and then").await;
}
