//! No request is lost, and no connection closed, when a service hands over to the next version of itself under load, again and
//! again: processes that start each other at SIGHUP, and HTTP/1.1 clients that never send a request twice.
//!
//! `HANDOVERS=1000 cargo test --test handoff -- load:: --skip rendezvous` for so many handoffs a load; 50 without.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    clients::{Clients, Habit, Idlers, times},
    service::{Service, assert_clean},
    streams,
    wait::until,
};

const THINK: Duration = Duration::from_millis(100);
/// Between the beginnings of two handoffs, unless one takes longer.
const PERIOD: Duration = Duration::from_millis(100);
/// A handoff that takes longer is reported in full.
const SLOW: Duration = Duration::from_secs(3);

#[test]
fn none_of_64_connections_back_to_back_loses_a_request_or_is_closed() {
    hand_over_under_load(64, 0, Habit::default());
}

#[test]
fn none_of_200_posting_connections_that_think_loses_a_request_or_is_closed() {
    hand_over_under_load(200, 0, Habit { posts: true, thinks: THINK, ..Habit::default() });
}

#[test]
fn no_request_on_a_connection_of_its_own_is_lost() {
    hand_over_under_load(16, 0, Habit { opens: true, ..Habit::default() });
}

#[test]
fn no_request_is_lost_and_no_connection_closed_where_half_of_them_are_idle() {
    hand_over_under_load(32, 32, Habit::default());
}

/// Their connections move. Where one cannot, its client is asked to leave, and opens another to the process that serves.
#[test]
fn no_http2_stream_is_lost_or_processed_twice() {
    let service = Service::start("");
    let clients = streams::Clients::new(service.addr);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let habits = [
        streams::Habit { connections: 8, streams: 8, ..streams::Habit::default() },
        streams::Habit { connections: 8, streams: 4, posts: true, thinks: THINK, ..streams::Habit::default() },
    ];
    let running: Vec<_> = habits.into_iter().map(|habit| runtime.spawn(Arc::clone(&clients).run(habit))).collect();
    clients.wait_for(100);
    let took = hand_over_again_and_again(&service, |_| {});
    clients.stop();
    running.into_iter().for_each(|clients| runtime.block_on(clients).unwrap());
    drop(runtime);
    let generation = service.who().generation;
    let (lines, processed) = service.end();

    let outcome = clients.outcome();
    println!(
        "{}: {} streams, {} connections opened, {} streams sent again, {} lost",
        summary(&took),
        clients.sent(),
        outcome.connections.len(),
        outcome.sent_again,
        outcome.lost.len(),
    );
    assert!(outcome.lost.is_empty(), "lost requests: {:#?}", outcome.lost);
    assert_eq!(outcome.answered, clients.sent());
    for connection in &outcome.connections {
        assert!(connection.broken_promises().is_empty(), "{:?}", connection.broken_promises());
    }
    assert_eq!(generation, times("HANDOVERS", 50) as u64);
    processed.assert_each_once(clients.sent());
    assert_clean(&lines);
}

/// Hands over from one generation to the next while `busy` clients ask as they do, and `idle` ones only now and then.
fn hand_over_under_load(busy: usize, idle: usize, habit: Habit) {
    let service = Service::start("");
    let clients = Clients::new(service.addr, habit);
    let took = thread::scope(|scope| {
        let _stop = clients.stop_on_drop();
        (0..busy).for_each(|_| drop(scope.spawn(|| clients.run())));
        let idlers = Idlers::start(scope, &clients, idle);
        idlers.ask_all();
        clients.wait_for(busy as u64);
        // Each of the idle asks at another one of the generations.
        hand_over_again_and_again(&service, |turn| idlers.ask_in_turn(turn, 7))
    });
    let generation = service.who().generation;
    let (lines, processed) = service.end();

    let outcome = clients.outcome().clone();
    println!(
        "{}: {} requests, {} connections opened, {} lost",
        summary(&took),
        clients.sent(),
        outcome.opened,
        outcome.lost.len(),
    );
    assert!(outcome.lost.is_empty(), "lost requests: {:#?}", outcome.lost);
    assert_eq!(outcome.answered, clients.sent());
    if !habit.opens {
        assert_eq!(outcome.opened, (busy + idle) as u64, "connections were closed");
    }
    assert_eq!(generation, times("HANDOVERS", 50) as u64);
    processed.assert_each_once(clients.sent());
    assert_clean(&lines);
}

/// How long each took, from the signal to the first answer of the next process.
fn hand_over_again_and_again(service: &Service, after: impl Fn(usize)) -> Vec<Duration> {
    let hand_over = |turn| {
        let began = Instant::now();
        service.hand_over();
        let took = began.elapsed();
        if took > SLOW {
            println!("handoff {turn} took {took:?}: {}", service.log());
        }
        after(turn);
        until(began + PERIOD);
        took
    };
    (0..times("HANDOVERS", 50)).map(hand_over).collect()
}

fn summary(took: &[Duration]) -> String {
    let average = took.iter().sum::<Duration>() / u32::try_from(took.len()).expect("not so many");
    let longest = took.iter().max().expect("at least one");
    format!("{} handoffs, {average:.1?} on average, {longest:.1?} at most", took.len())
}
