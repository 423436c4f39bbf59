//! `kill -9` of the old process at every step: the new one goes on alone, and clients of connections that have moved notice
//! nothing.
//!
//! Needs Debian's package python3.

use std::{env, os::unix::fs::symlink, process::Command};

use rustix::process::Signal;

use crate::support::{
    needs,
    service::{Service, assert_moves, who},
};

const PREDECESSOR: &str = concat!(include_str!("../support/protocol.py"), include_str!("../support/predecessor.py"));

/// A predecessor that is killed at that step; the service has come to the next one, which serves.
#[track_caller]
fn killed_at(step: &str, generation: u64) -> Service {
    needs::program("python3", "python3");
    let service = Service::start_as("", |folder| {
        let program = folder.join("program");
        symlink(env::current_exe().unwrap(), &program).unwrap();
        let mut command = Command::new("python3");
        command.args(["-c", PREDECESSOR, step]).arg(program);
        command
    });
    let died = service.wait_for(|line| line.text == format!("dies at {step}"));
    service.wait_for_end(died.pid);
    let new = service.who();
    assert_eq!(new.generation, generation);
    service.wait_for_word(new.pid, "is alone");
    // It is a service as any other.
    assert_eq!(service.hand_over().generation, generation + 1);
    service
}

#[test]
fn before_it_has_said_a_word() {
    killed_at("join", 0).end();
}

#[test]
fn after_its_hello() {
    killed_at("hello", 0).end();
}

#[test]
fn after_the_listeners() {
    killed_at("listeners", 42).end();
}

#[test]
fn after_its_offer() {
    killed_at("offered", 42).end();
}

#[test]
fn when_the_new_one_is_ready() {
    killed_at("ready", 42).end();
}

#[test]
fn right_after_the_commit() {
    killed_at("commit", 42).end();
}

#[test]
fn before_it_hears_that_its_connections_are_taken() {
    killed_at("connections", 42).end();
}

#[test]
fn when_its_connections_are_taken_each_is_served_on_from_the_half_head_that_was_read() {
    let service = killed_at("taken", 42);
    service.wait_for(|line| line.text == "saw 20 answers");
    service.end();
}

/// A process of the service itself.
#[track_caller]
fn killed_by_its_successor(step: &str, generation: u64) {
    let service = Service::start("");
    let old = service.who();
    service.plan(step, &format!("kill {}", old.pid));
    service.signal(old.pid, Signal::HUP);
    service.wait_for_end(old.pid);
    let new = service.who();
    assert_ne!(new.pid, old.pid);
    assert_eq!(new.generation, generation);
    service.wait_for_word(new.pid, "is alone");
    service.hand_over();
    service.end();
}

#[test]
fn while_the_new_one_starts() {
    killed_by_its_successor("start", 0);
}

#[test]
fn while_the_new_one_imports_the_state() {
    killed_by_its_successor("import", 1);
}

#[test]
fn while_the_new_one_gets_ready() {
    killed_by_its_successor("ready", 1);
}

#[test]
fn while_the_last_words_are_said() {
    killed_by_its_successor("import-final", 1);
}

#[test]
fn while_it_drains_clients_of_connections_that_have_moved_notice_nothing() {
    let service = Service::start("");
    service.gate("gate");
    let mut held = service.connect();
    held.ask("/slow/gate/1").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    let mut idle: Vec<_> = (0..64).map(|_| service.connect()).collect();
    idle.iter_mut().for_each(|idle| drop(idle.get("/who").unwrap()));
    let old = service.who();
    let new = service.hand_over();
    for idle in &mut idle {
        assert_moves(idle, new);
    }
    service.signal(old.pid, Signal::KILL);
    service.wait_for_word(new.pid, "is alone");
    for idle in &mut idle {
        assert_eq!(who(idle), new);
    }
    assert!(held.answer().is_err(), "what it had not handed over is lost with it");
    service.hand_over();
    service.end();
}
