//! Handoffs at a path under load: no request is lost, and no connection closed.

use std::{path::PathBuf, thread, time::Duration};

use rustix::process::{Signal, kill_process};

use super::{
    harness::{Process, folder, met, wait_for_generation, who},
    process::Settings,
};
use crate::support::{
    clients::{Clients, Habit, Idlers, times},
    subprocess::Subprocess,
};

const THINK: Duration = Duration::from_millis(100);

#[test]
fn nothing_is_lost_or_closed_when_another_program_starts_the_next_process() {
    let folder = folder();
    let settings = met(folder.path().join("handoff.sock"));
    hand_over_under_load(|_| Process::start(&settings), |last| last.signal(Signal::TERM));
}

#[test]
fn nothing_is_lost_or_closed_from_container_to_container() {
    let folder = folder();
    let start = |generation: usize| {
        let name = format!("app-{generation}");
        let path = PathBuf::from("/mnt").join(&name).join("handoff.sock");
        Process::start_in_container(&met(path), folder.path(), &name)
    };
    hand_over_under_load(start, |last| kill_process(last.first_in_container(), Signal::TERM).unwrap());
}

#[test]
fn nothing_is_lost_or_closed_where_the_sockets_come_from_a_launcher() {
    let folder = folder();
    let settings = Settings { passed: true, ..met(folder.path().join("handoff.sock")) };
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let start = |_| {
        let subprocess = Subprocess::passed("serve", [("http", socket.try_clone().unwrap().into())]);
        Process::run(subprocess.arg(serde_json::to_string(&settings).unwrap()))
    };
    hand_over_under_load(start, |last| last.signal(Signal::TERM));
}

#[test]
fn every_socket_of_a_name_goes_to_the_next_process() {
    let folder = folder();
    let settings = Settings { sockets: Some(3), ..met(folder.path().join("handoff.sock")) };
    let old = Process::start(&settings);
    let addrs = old.hear("listens ");
    let new = Process::start(&settings);
    assert_eq!(new.hear("listens "), addrs);
    old.moved_out();
    for addr in addrs.split(' ') {
        assert_eq!(who(addr.parse().unwrap()).generation, 1);
    }
    new.signal(Signal::TERM);
    new.ended();
}

/// Starts one process after the other, each of which takes over from the one before, while clients ask.
#[track_caller]
fn hand_over_under_load(start: impl Fn(usize) -> Process, stop: impl FnOnce(&Process)) {
    let mut serving = start(0);
    let addr = serving.addr();
    who(addr);
    let busy = [
        (16, Habit::default()),
        (32, Habit { posts: true, thinks: THINK, ..Habit::default() }),
        (4, Habit { opens: true, thinks: THINK / 10, ..Habit::default() }),
    ];
    let busy = busy.map(|(count, habit)| (count, Clients::new(addr, habit)));
    let idle = Clients::new(addr, Habit::default());
    thread::scope(|scope| {
        let _stop: Vec<_> = busy.iter().map(|(_, clients)| clients.stop_on_drop()).collect();
        for (count, clients) in &busy {
            (0..*count).for_each(|_| drop(scope.spawn(|| clients.run())));
        }
        let idlers = Idlers::start(scope, &idle, 16);
        idlers.ask_all();
        busy.iter().for_each(|(count, clients)| clients.wait_for(*count));
        for generation in 1..=times("HANDOVERS", 8) {
            let next = start(generation);
            wait_for_generation(addr, generation as u64);
            std::mem::replace(&mut serving, next).moved_out();
            idlers.ask_in_turn(generation, 5);
        }
    });
    stop(&serving);
    serving.ended();

    let mut requests = 0;
    let connections = |count: u64, clients: &Clients| {
        let outcome = clients.outcome().clone();
        assert!(outcome.lost.is_empty(), "lost requests: {:#?}", outcome.lost);
        assert_eq!(outcome.answered, clients.sent());
        assert_eq!(outcome.opened, count, "connections were closed");
        clients.sent()
    };
    for (count, clients) in &busy[..2] {
        requests += connections(*count, clients);
    }
    requests += connections(16, &idle);
    requests += connections(busy[2].1.sent(), &busy[2].1);
    println!("{} handoffs, {requests} requests, none lost, no connection closed", times("HANDOVERS", 8));
}
