//! Clients whose one request lasts: WebSockets and event streams.

use super::handoffs::hand_over_under;
use crate::support::{
    place::Place,
    real::{events, websocket},
};

const CLIENTS: usize = 200;

#[test]
fn two_hundred_web_sockets_lose_no_message_and_stay_connected() {
    let handed_over = hand_over_under("", |addr| vec![websocket::clients(&Place::default(), addr, CLIENTS, 1)]);
    handed_over.assert_none_lost();
    handed_over.assert_each_once();
    handed_over.assert_all_move(CLIENTS as u64);
}

#[test]
fn two_hundred_event_streams_lose_no_event_and_stay_connected() {
    let handed_over = hand_over_under("", |addr| vec![events::clients(&Place::default(), addr, CLIENTS)]);
    handed_over.assert_none_lost();
    handed_over.assert_all_move(CLIENTS as u64);
}
