//! No request is lost when one process takes over from another: two processes on one listening socket, the old drained by
//! SIGTERM under load while the new one serves, again and again; HTTP/1.1 clients that never send a request twice.
//!
//! `DRAINS=50 cargo test --test drain load::http1` for so many drains a load; 10 without.
//!
//! A client opens another connection only where the answer said `Connection: close`, or where it finds its connection over
//! before it sends. Between that look and the first byte of the request a server may close all the same; no server on
//! HTTP/1.1 can help that but by waiting for longer than its clients think, which is what `keep_alive_grace` is for: 1 s here, as by
//! default. So the idle clients of these tests do not send at the very end of it.

use std::{net::TcpListener, thread, time::Duration};

use crate::support::{
    clients::{Clients, Habit, Idlers, times},
    generation::{Chronicle, Generation},
};

const THINK: Duration = Duration::from_millis(100);
/// How many answers show that all clients are at work again.
const ANSWERS_BETWEEN: u64 = 2000;

#[test]
fn none_of_64_connections_back_to_back_loses_a_request() {
    drain_under_load(64, 0, Habit { looks: true, ..Habit::default() });
}

#[test]
fn none_of_200_posting_connections_that_think_loses_a_request() {
    drain_under_load(200, 0, Habit { posts: true, thinks: THINK, looks: true, ..Habit::default() });
}

#[test]
fn none_of_200_posting_connections_loses_a_request_even_where_none_looks_before_sending() {
    drain_under_load(200, 0, Habit { posts: true, thinks: THINK, ..Habit::default() });
}

#[test]
fn no_request_on_a_connection_of_its_own_is_lost() {
    drain_under_load(16, 0, Habit { opens: true, looks: true, ..Habit::default() });
}

#[test]
fn no_request_is_lost_where_half_of_the_connections_are_idle() {
    drain_under_load(32, 32, Habit { looks: true, ..Habit::default() });
}

/// Drains one generation after the other while `busy` clients ask as they do, and `idle` ones only now and then.
fn drain_under_load(busy: usize, idle: usize, habit: Habit) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let clients = Clients::new(socket.local_addr().unwrap(), habit);
    let mut chronicle = Chronicle::default();
    let last = thread::scope(|scope| {
        let mut serving = Generation::start(&socket);
        let _stop = clients.stop_on_drop();
        (0..busy).for_each(|_| drop(scope.spawn(|| clients.run())));
        let idlers = Idlers::start(scope, &clients, idle);
        idlers.ask_all();
        for _ in 0..times("DRAINS", 10) {
            clients.wait_for(ANSWERS_BETWEEN);
            let next = Generation::start(&socket);
            let mut old = std::mem::replace(&mut serving, next);
            // Of the idle, a third asks before the drain, a third within it, and a third finds out after it.
            idlers.ask(0..idle / 3);
            old.terminate();
            idlers.ask(idle / 3..idle * 2 / 3);
            chronicle.add(old.end());
            idlers.ask_all();
        }
        serving
    });
    chronicle.add(last.drain());

    let outcome = clients.outcome().clone();
    println!(
        "{} drains: {} requests, {} connections opened, {} lost",
        chronicle.epitaphs.len(),
        clients.sent(),
        outcome.opened,
        outcome.lost.len(),
    );
    assert!(outcome.lost.is_empty(), "lost requests: {:#?}", outcome.lost);
    assert_eq!(outcome.answered, clients.sent());
    chronicle.assert_each_once(clients.sent());
    chronicle.assert_clean();
}
