//! `kill -9` of the old or the new process at a random moment of a handoff: no call is processed twice, no message comes twice, and
//! no client hangs. What only the killed process had is lost with it, and nothing else.
//!
//! `KILLS=100 cargo test --test handoff real::killed` for so many of each; 5 without.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process};

use crate::support::{
    clients::times,
    place::Place,
    process::as_pid,
    real::{
        calls::Load,
        outcomes::Outcomes,
        tonic::{self, Kind},
        websocket,
    },
    service::{Service, Who},
    wait::until,
};

const WEB_SOCKETS: usize = 40;
const CHANNELS: usize = 8;
/// The requests that hold the old process are numbered from here on.
const GATES: u64 = 9_000_000_000_000;
/// What a client says that has waited in vain.
const HANGS: [&str; 2] = ["os error 11", "timed out"];

#[test]
fn a_new_process_that_is_killed_leaves_the_old_one_serving() {
    kill_again_and_again(|service, old, moment| {
        // Held by a request, the old one drains until that is answered.
        let number = GATES + service.lines().len() as u64;
        let gate = format!("gate-{number}");
        service.gate(&gate);
        let mut held = service.connect();
        held.ask(&format!("/slow/{gate}/{number}")).unwrap();
        service.wait_for(|line| line.text == format!("holds {gate}"));
        let new = start(service, old);
        until(Instant::now() + moment);
        service.signal(new, Signal::KILL);
        service.wait_for_end(new);
        service.eventually("the old one accepts again", || service.connect().get("/who").is_ok());
        assert_eq!(service.who(), old);
        service.open(&gate);
        assert_eq!(held.answer().unwrap().status, 200, "the old one still has it");
        vec![new, old.pid]
    });
}

#[test]
fn a_new_process_goes_on_alone_when_the_old_one_is_killed() {
    kill_again_and_again(|service, old, moment| {
        let new = start(service, old);
        until(Instant::now() + moment);
        // It may have ended.
        let _ = kill_process(as_pid(old.pid), Signal::KILL);
        service.wait_for_end(old.pid);
        service.wait_for_word(new, "is alone");
        assert_eq!(service.who().pid, new);
        vec![old.pid]
    });
}

/// How long a handoff takes, from the start of the new process to the end of the old one.
fn handoff_time(service: &Service) -> Duration {
    let old = service.who();
    start(service, old);
    let started = Instant::now();
    service.wait_for_end(old.pid);
    started.elapsed()
}

/// Asks for a handoff: the process that starts.
fn start(service: &Service, old: Who) -> u32 {
    let known = service.pids();
    service.signal(old.pid, Signal::HUP);
    service.wait_for(|line| line.text == "starts" && !known.contains(&line.pid)).pid
}

/// Kills as `kill` does, which is given the process that serves and how long to wait, and says with which processes a connection
/// was that may be lost.
#[track_caller]
fn kill_again_and_again(kill: impl Fn(&Service, Who, Duration) -> Vec<u32>) {
    let service = Service::start("");
    let here = Place::default();
    let loads = vec![
        websocket::clients(&here, service.addr, WEB_SOCKETS, 1),
        tonic::calls(&here, service.addr, CHANNELS, &[Kind::Unary], 1_000_000_000),
        tonic::calls(&here, service.addr, CHANNELS, &[Kind::Client, Kind::Server, Kind::Both], 2_000_000_000),
    ];
    progress(&loads);
    let (kills, time) = (times("KILLS", 5), handoff_time(&service));
    let mut with = HashSet::new();
    for _ in 0..kills {
        progress(&loads);
        with.extend(kill(&service, service.who(), time.mul_f64(random())));
    }
    progress(&loads);
    let outcomes = Outcomes::of(loads);
    outcomes.print(&format!("{kills} kills"));
    for lost in outcomes.lost() {
        assert!(!HANGS.iter().any(|hangs| lost.contains(hangs)), "a client hangs: {lost}");
        assert!(!lost.contains(websocket::WRONG) && !lost.contains("another answer"), "{lost}");
        let last = lost.split_once(" of ").and_then(|(_, rest)| rest.split(':').next()?.parse().ok()).unwrap_or(0);
        assert!(last == 0 || with.contains(&last), "the connection was with a process that lives: {lost}");
    }
    let (_, processed) = service.end();
    processed.assert_none_twice();
}

/// Returns when clients of each kind have got answers.
fn progress(loads: &[Load]) {
    loads.iter().for_each(|load| load.wait_for(30));
}

/// From 0 to 1.
fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).expect("32 bits")) / f64::from(u32::MAX)
}
