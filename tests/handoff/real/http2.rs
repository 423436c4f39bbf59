//! Clients over HTTP/2: h2load, tonic, grpcio, Node and Go.

use super::handoffs::hand_over_under;
use crate::support::{
    place::Place,
    real::{
        h2load::{Asks, H2load},
        programs,
        tonic::{self, Kind},
    },
};

#[track_caller]
fn h2load_loses_nothing(window: &str, window_bits: u8) {
    let load = |asks, streams, requests| H2load { asks, connections: 4, streams, window_bits, requests };
    let loads = [
        load(Asks::Get, 1, 400),
        load(Asks::Get, 8, 1_500),
        load(Asks::Get, 32, 3_000),
        load(Asks::Post, 1, 200),
        load(Asks::Post, 8, 600),
        load(Asks::Post, 32, 1_000),
        load(Asks::GetLarge, 8, 100),
    ];
    let start = |addr| loads.map(|load| load.start(&Place::default(), addr)).into();
    let handed_over = hand_over_under(window, start);
    handed_over.assert_none_lost();
    handed_over.assert_most_move();
}

#[test]
fn h2load_loses_no_request_with_windows_of_64_kib() {
    h2load_loses_nothing("window=65535", 16);
}

#[test]
fn h2load_loses_no_request_with_large_windows() {
    h2load_loses_nothing("window=16777215", 30);
}

#[track_caller]
fn tonic_loses_nothing(kinds: &'static [Kind]) {
    let handed_over = hand_over_under("", |addr| vec![tonic::calls(&Place::default(), addr, 8, kinds, 1)]);
    handed_over.assert_none_lost();
    handed_over.assert_each_once();
    handed_over.assert_most_move();
}

#[test]
fn tonic_loses_no_unary_call_and_stays_connected() {
    tonic_loses_nothing(&[Kind::Unary]);
}

#[test]
fn tonic_loses_no_stream_that_ends_and_stays_connected() {
    tonic_loses_nothing(&[Kind::Client, Kind::Server, Kind::Both, Kind::Unary]);
}

#[test]
fn grpcio_loses_no_call_and_stays_connected() {
    let handed_over = hand_over_under("", |addr| vec![programs::grpcio(&Place::default(), addr, 1)]);
    handed_over.assert_none_lost();
    handed_over.assert_each_once();
    handed_over.assert_most_move();
}

#[test]
fn node_loses_no_request_and_stays_connected() {
    let handed_over = hand_over_under("window=65535", |addr| vec![programs::node(&Place::default(), addr, 1)]);
    handed_over.assert_none_lost();
    handed_over.assert_each_once();
    handed_over.assert_most_move();
}

#[test]
fn go_with_x_net_loses_no_request_and_stays_connected() {
    let handed_over = hand_over_under("", |addr| vec![programs::go_x_net(&Place::default(), addr, 1)]);
    handed_over.assert_none_lost();
    handed_over.assert_each_once();
    handed_over.assert_most_move();
}

/// Go 1.19 acknowledges the empty table and goes on indexing, so it is asked to connect again, and sends again what was refused.
#[test]
fn go_loses_no_request_though_it_connects_again() {
    let handed_over = hand_over_under("", |addr| vec![programs::go(&Place::default(), addr, 1)]);
    handed_over.assert_none_lost();
    handed_over.assert_each_once();
}
