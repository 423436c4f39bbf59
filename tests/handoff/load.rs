//! No request is lost, and no connection closed, when a service hands over to the next version of itself under load, again and
//! again: processes that start each other at SIGHUP, and HTTP/1.1 clients that never send a request twice.
//!
//! `HANDOVERS=1000 cargo test --test handoff -- load:: --skip rendezvous` for so many handoffs a load; 50 without.

use std::{
    env,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    clients::{Clients, Habit},
    service::{Service, assert_clean},
    streams,
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

/// Their connections do not move: each client is told, and opens another to whoever serves.
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
    assert_eq!(generation, handovers() as u64);
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
        let idlers: Vec<_> = (0..idle)
            .map(|_| {
                let (sender, told) = channel();
                scope.spawn({
                    let clients = &clients;
                    move || clients.run_when_told(&told)
                });
                sender
            })
            .collect();
        tell(&idlers);
        clients.wait_for(busy as u64);
        // Each of the idle asks at another one of the generations.
        hand_over_again_and_again(&service, |turn| tell(idlers.iter().skip(turn % 7).step_by(7)))
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
    assert_eq!(generation, handovers() as u64);
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
        thread::sleep(PERIOD.saturating_sub(began.elapsed()));
        took
    };
    (0..handovers()).map(hand_over).collect()
}

fn summary(took: &[Duration]) -> String {
    let average = took.iter().sum::<Duration>() / u32::try_from(took.len()).expect("not so many");
    let longest = took.iter().max().expect("at least one");
    format!("{} handoffs, {average:.1?} on average, {longest:.1?} at most", took.len())
}

fn tell<'a>(idlers: impl IntoIterator<Item = &'a Sender<()>>) {
    idlers.into_iter().for_each(|idler| idler.send(()).expect("the client runs"));
}

fn handovers() -> usize {
    env::var("HANDOVERS").map_or(50, |handovers| handovers.parse().expect("HANDOVERS is a number"))
}
