//! The tables of the header compression on both sides (RFC 7541).

use super::{
    super::super::observe::http2::frame::{self, code},
    client::{Client, block, get, headers, literal},
    handler::filling,
    lines::Route,
};
use crate::server::limits::Http2Options;

fn route() -> Route {
    Route::new(Http2Options::new())
}

/// A block that inserts a field, and one that uses it.
fn inserting(path: &str) -> Vec<u8> {
    [block("GET", path), vec![0x40], literal("x-some", "value")[1..].to_vec()].concat()
}

fn using(path: &str) -> Vec<u8> {
    [block("GET", path), vec![0xbe]].concat()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ignores_the_size_of_the_table_stays_where_that_is_known() {
    let route = route();
    let mut client = Client::connect(&route).await;
    client.send(&headers(1, 5, &inserting("/headers"))).await;
    assert_eq!(client.body(1).await, b"x-some: value\n");
    client.send(&get(3, "/wait")).await;
    client.settle().await;
    route.hand_over();
    client.until(|client| client.settings.len() == 2).await;
    client.send(&headers(5, 5, &using("/headers"))).await;
    assert_eq!(client.body(5).await, b"x-some: value\n");
    client.until(|client| client.goaway.is_some()).await;
    route.handler().go_on(1);
    client.end().await;
    assert_eq!((client.goaway, route.moves()), (Some((5, code::NO_ERROR)), 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ignores_the_size_of_the_table_is_sent_away_by_the_next_process() {
    for cut in [0, 5, 9, 12, 18] {
        let route = route();
        let mut client = Client::connect(&route).await;
        client.send(&headers(1, 5, &inserting("/headers"))).await;
        assert_eq!(client.body(1).await, b"x-some: value\n");
        client.moved(&route).await;
        client.settle().await;
        // The first block shows nothing, and the stream is served.
        assert_eq!(client.get(3, "/size/10").await, filling(10));
        client.send(&get(5, "/wait")).await;
        client.settle().await;
        let request = headers(7, 5, &using("/headers"));
        client.send(&request[..cut]).await;
        client.settle().await;
        client.send(&[&request[cut..], &get(9, "/headers")].concat()).await;
        client.until(|client| client.goaway.is_some()).await;
        assert_eq!(client.goaway, Some((5, code::NO_ERROR)));
        route.handler().go_on(1);
        assert_eq!(client.body(5).await, b"waited");
        client.end().await;
        assert!(client.bodies.is_empty(), "{:?}", client.bodies);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_empties_its_table_may_fill_it_again() {
    // As RFC 7541 has it, and with the last size alone.
    for sizes in [&[0x20, 0x3f, 0xe1, 0x1f][..], &[0x20], &[0x3f, 0xe1, 0x1f]] {
        let route = route();
        let mut client = Client::connect(&route).await;
        client.send(&headers(1, 5, &inserting("/headers"))).await;
        assert_eq!(client.body(1).await, b"x-some: value\n");
        client.moved(&route).await;
        client.settle().await;
        client.send(&headers(3, 5, &[sizes, &inserting("/headers")].concat())).await;
        assert_eq!(client.body(3).await, b"x-some: value\n");
        if sizes.len() > 1 {
            for stream in (5..15).step_by(2) {
                client.send(&headers(stream, 5, &using("/headers"))).await;
                assert_eq!(client.body(stream).await, b"x-some: value\n");
            }
        }
        assert_eq!(client.goaway, None);
    }
}

#[tokio::test(start_paused = true)]
async fn the_table_of_the_response_headers_is_emptied() {
    let route = route();
    let mut client = Client::connect_with(&route, &[(1, 1024)]).await;
    client.send(&frame::settings([(1, 4096)])).await;
    assert_eq!(client.get(1, "/").await, b"hello");
    client.moved(&route).await;
    assert_eq!(client.get(3, "/").await, b"hello");
    let block = client.blocks.last().unwrap();
    assert_eq!(block[..4], [0x20, 0x3f, 0xe1, 0x1f], "sizes of 0 and 4,096");
    assert_eq!(client.get(5, "/").await, b"hello");
    assert_eq!(client.blocks.last().unwrap()[0], 0x88, "200");
}
