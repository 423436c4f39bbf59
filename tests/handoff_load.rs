//! No request is lost, and no connection closed, when a service hands over to the next version of itself under load, again and
//! again: processes that start each other at SIGHUP, and HTTP/1.1 clients that never send a request twice.
//!
//! `HANDOVERS=1000 cargo test --test handoff_load` for so many hand-overs a load; 10 without.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support {
    pub(crate) mod clients;
    pub(crate) mod lasting;
    pub(crate) mod service;
    pub(crate) mod successive;
    pub(crate) mod wire;
}

use std::{
    env,
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use self::support::{
    clients::{Clients, Habit},
    service::{Service, assert_clean},
    successive,
};

const THINK: Duration = Duration::from_millis(100);
/// Between the beginnings of two hand-overs, unless one takes longer.
const PERIOD: Duration = Duration::from_millis(100);

#[test]
fn generation() {
    successive::serve();
}

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
        (0..handovers())
            .map(|turn| {
                let began = Instant::now();
                service.hand_over();
                let took = began.elapsed();
                // Each of the idle asks at another one of the generations.
                tell(idlers.iter().skip(turn % 7).step_by(7));
                thread::sleep(PERIOD.saturating_sub(began.elapsed()));
                took
            })
            .collect::<Vec<_>>()
    });
    let generation = service.who().generation;
    let (lines, processed) = service.end();

    let outcome = clients.outcome().clone();
    println!(
        "{generation} hand-overs, {:?} on average, {:?} at most: {} requests, {} connections opened, {} lost",
        took.iter().sum::<Duration>() / u32::try_from(took.len()).unwrap(),
        took.iter().max().unwrap(),
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

fn tell<'a>(idlers: impl IntoIterator<Item = &'a Sender<()>>) {
    idlers.into_iter().for_each(|idler| idler.send(()).expect("the client runs"));
}

fn handovers() -> usize {
    env::var("HANDOVERS").map_or(10, |handovers| handovers.parse().expect("HANDOVERS is a number"))
}
