//! As `http1`, over HTTP/2: no request is lost, and none is processed twice, when one process takes over from another.
//!
//! `DRAINS=50 cargo test --test drain load::http2` for so many drains a load; 10 without.
//!
//! The clients are those of the `h2` crate. At the first GOAWAY they open a connection to the process that serves; they send again
//! what the last GOAWAY said was not processed, and nothing else.

use std::{net::TcpListener, sync::Arc, time::Duration};

use crate::support::{
    clients::times,
    generation::{Chronicle, Generation},
    streams::{Clients, Habit},
};

const THINK: Duration = Duration::from_millis(100);
/// How many answers show that all clients are at work again.
const ANSWERS_BETWEEN: u64 = 2000;
/// The first step of a GOAWAY names the highest stream there can be: nothing more is to come, and nothing is refused yet.
const FIRST_STEP: u32 = (1 << 31) - 1;

#[test]
fn none_of_64_streams_back_to_back_is_lost_or_processed_twice() {
    drain_under_load(&[Habit { connections: 8, streams: 8, ..Habit::default() }]);
}

#[test]
fn none_of_200_posting_streams_that_think_is_lost_or_processed_twice() {
    drain_under_load(&[Habit { connections: 20, streams: 10, posts: true, thinks: THINK, ..Habit::default() }]);
}

#[test]
fn no_stream_on_a_connection_of_its_own_is_lost_or_processed_twice() {
    drain_under_load(&[Habit { connections: 16, streams: 1, opens: true, ..Habit::default() }]);
}

#[test]
fn no_stream_is_lost_or_processed_twice_where_half_of_the_connections_are_idle() {
    let busy = Habit { connections: 16, streams: 2, ..Habit::default() };
    let idle = Habit { connections: 16, streams: 1, thinks: Duration::from_secs(3), ..Habit::default() };
    drain_under_load(&[busy, idle]);
}

/// Drains one generation after the other while clients ask.
fn drain_under_load(habits: &[Habit]) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let clients = Clients::new(socket.local_addr().unwrap());
    let mut chronicle = Chronicle::default();
    let mut serving = Generation::start(&socket);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let running: Vec<_> = habits.iter().map(|habit| runtime.spawn(Arc::clone(&clients).run(*habit))).collect();
    for _ in 0..times("DRAINS", 10) {
        clients.wait_for(ANSWERS_BETWEEN);
        let next = Generation::start(&socket);
        chronicle.add(std::mem::replace(&mut serving, next).drain());
    }
    clients.stop();
    running.into_iter().for_each(|clients| runtime.block_on(clients).unwrap());
    chronicle.add(serving.drain());
    check(&clients, &chronicle);
}

fn check(clients: &Clients, chronicle: &Chronicle) {
    let outcome = clients.outcome();
    println!(
        "{} drains: {} requests, {} connections opened, {} streams sent again, {} lost",
        times("DRAINS", 10),
        clients.sent(),
        outcome.connections.len(),
        outcome.sent_again,
        outcome.lost.len(),
    );
    assert!(outcome.lost.is_empty(), "lost requests: {:#?}", outcome.lost);
    assert_eq!(outcome.answered, clients.sent());
    for connection in &outcome.connections {
        let announced = connection.goaways();
        assert!(matches!(announced[..], [] | [FIRST_STEP] | [FIRST_STEP, _]), "no two steps: {announced:?}");
        assert!(connection.broken_promises().is_empty(), "{announced:?}, but {:?}", connection.broken_promises());
    }
    chronicle.assert_each_once(clients.sent());
    chronicle.assert_clean();
}
