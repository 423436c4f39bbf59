//! Which process the service manager knows as the main one.

use std::{env, fs, os::unix::fs::symlink, process::Command, thread};

use rustix::process::Signal;

use crate::support::{
    manager::Manager,
    service::{Service, Who},
};

/// A service that has named its successor as the main process and waits until the manager has heard it: both of them.
fn named(manager: &Manager) -> (Service, Who, u32) {
    let service = Service::start_as("", |folder| {
        let program = folder.join("program");
        symlink(env::current_exe().unwrap(), &program).unwrap();
        let mut command = Command::new(program);
        command.env("NOTIFY_SOCKET", manager.address());
        command
    });
    let old = service.who();
    manager.hold_barriers();
    service.signal(old.pid, Signal::HUP);
    manager.wait("it is asked whether it knows the successor", |manager| {
        manager.heard(|heard| heard.last().is_some_and(|message| message.says("BARRIER=1")))
    });
    let new = manager.values("MAINPID");
    assert_eq!(new.len(), 1, "{:?}", manager.texts());
    (service, old, new[0].parse().unwrap())
}

#[test]
fn the_old_process_takes_it_back_when_its_successor_dies_before_the_commit() {
    let manager = Manager::start();
    let (service, old, new) = named(&manager);
    service.signal(new, Signal::KILL);
    service.wait_for_end(new);
    // A process is a zombie while threads of it still end, and its files are open.
    while fs::read_dir(format!("/proc/{new}/task")).map_or(0, Iterator::count) > 1 {
        thread::yield_now();
    }
    manager.answer_barriers();
    service.wait_for_word(old.pid, "failed ");
    manager.wait("the old one is ready again", |manager| {
        manager.status().contains("closed the control socket") || manager.values("READY").len() == 2
    });
    assert_eq!(manager.values("MAINPID"), [new.to_string(), old.pid.to_string()]);
    let texts = manager.texts();
    let at = |words: &str| texts.iter().rposition(|text| text.contains(words)).unwrap();
    assert!(at("MAINPID=") < at("READY=1"), "{texts:?}");
    assert_eq!(service.who(), old);
    service.end();
}

#[test]
fn a_stop_takes_it_back_at_once_and_nothing_is_left_running() {
    let manager = Manager::start();
    let (mut service, old, new) = named(&manager);
    service.signal(old.pid, Signal::TERM);
    service.wait_for_word(old.pid, "ends ");
    service.wait_for_end(new);
    service.wait_for_all();
    assert_eq!(manager.values("MAINPID"), [new.to_string(), old.pid.to_string()]);
    let texts = manager.texts();
    let at = |words: &str| texts.iter().rposition(|text| text.contains(words)).unwrap();
    assert!(at("MAINPID=") < at("STOPPING=1"), "{texts:?}");
    manager.answer_barriers();
}
