//! What the service managers of two units are sent, when a process of one takes over from that of the other.

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    harness::{Process, folder, met, subprocess, wait_for_generation},
    process::Settings,
};
use crate::support::{http::Client, manager::Manager};

/// A process that has handed over and still answers a request, the next one, and their managers.
struct HandedOver {
    old: Process,
    new: Process,
    managers: [Manager; 2],
    held: Client,
    _folder: TempDir,
}

fn start(settings: &Settings, manager: &Manager) -> Process {
    Process::run(subprocess(settings).variable("NOTIFY_SOCKET", manager.address()))
}

fn handed_over() -> HandedOver {
    let (folder, managers) = (folder(), [Manager::start(), Manager::start()]);
    let settings = met(folder.path().join("handoff.sock"));
    let old = start(&settings, &managers[0]);
    let addr = old.addr();
    wait_for_generation(addr, 0);
    let (mut idle, mut held) = (Client::connect(addr).unwrap(), Client::connect(addr).unwrap());
    idle.get("/1").unwrap();
    held.send("POST /held HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n").unwrap();
    let new = start(&settings, &managers[1]);
    wait_for_generation(addr, 1);
    managers[0].wait("it says what has moved", |manager| {
        let status = manager.status();
        status.starts_with("handed over: waiting for 1 request, 1 connection, 20s at most; moved: ")
            && status.ends_with(" http1")
    });
    HandedOver { old, new, managers, held, _folder: folder }
}

#[test]
fn the_old_process_says_what_it_waits_for_and_what_has_moved_and_the_new_one_what_it_has_taken_over() {
    let HandedOver { old, new, managers, mut held, .. } = handed_over();
    let is_taken_over = |status: String| status.contains(" in flight; taken over: ") && status.ends_with(" http1");
    managers[1].wait("it says what has come", |manager| is_taken_over(manager.status()));
    held.send("x").unwrap();
    assert_eq!(held.answer().unwrap().text(), "x");
    old.moved_out();
    let last = managers[0].status();
    assert!(last.starts_with("drained in ") && last.contains(" moved (") && !last.contains("not moved"), "{last}");
    new.signal(Signal::TERM);
    new.ended();
}

#[test]
fn the_old_process_says_that_it_serves_when_its_successor_has_died() {
    let HandedOver { old, new, managers, held, .. } = handed_over();
    new.signal(Signal::KILL);
    managers[0].wait("it serves again", |manager| manager.status().starts_with("serving: "));
    old.signal(Signal::TERM);
    managers[0].wait("and stops", |manager| manager.status().starts_with("draining: "));
    drop(held);
    old.ended();
}
