//! A new version that is to listen at another address.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    thread,
};

use rustix::process::Signal;

use super::{
    harness::{Process, folder, met, wait_for_generation, who},
    process::Settings,
};
use crate::support::{http::Client, wait::eventually};

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A process that reads its address from a file when it starts.
fn read_from(file: &Path) -> Settings {
    Settings { listen: Some(file.to_owned()), ..Settings::default() }
}

/// Opens a connection for each request until none can be opened; fails if one that was opened is not answered.
fn ask_until_refused(addr: SocketAddr) {
    eventually(&format!("{addr} is closed"), || {
        let Ok(mut client) = Client::connect(addr) else { return true };
        let answer = client.get("/1").expect("what waits in the accept queue is answered");
        assert_eq!(answer.text(), "1");
        false
    });
}

/// The next process comes by `next`, and listens at another address.
#[track_caller]
fn moves(settings: &Settings, file: &Path, next: impl FnOnce(&Process) -> Option<Process>) {
    let (before, after) = (free_address(), free_address());
    fs::write(file, before.to_string()).unwrap();
    let old = Process::start(settings);
    assert_eq!(old.addr(), before);
    // It says its address before it serves, and without a handler SIGHUP ends it.
    wait_for_generation(before, 0);
    let mut held = Client::connect(before).unwrap();
    held.send("POST /held HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n").unwrap();
    fs::write(file, after.to_string()).unwrap();
    let next = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| ask_until_refused(before))).collect();
        let next = next(&old);
        // They end while the old process still drains.
        clients.into_iter().for_each(|client| client.join().unwrap());
        next
    });
    wait_for_generation(after, 1);
    held.send("x").unwrap();
    assert_eq!(held.answer().unwrap().text(), "x");
    old.hear("ends ");
    who(after).signal(Signal::TERM);
    if let Some(next) = next {
        next.ended();
    }
}

#[test]
fn a_started_process_binds_its_address_and_the_old_one_closes_its_own() {
    let folder = folder();
    let file = folder.path().join("address");
    moves(&read_from(&file), &file, |old| {
        old.signal(Signal::HUP);
        None
    });
}

#[test]
fn a_process_that_comes_to_the_path_binds_its_address_and_the_old_one_closes_its_own() {
    let folder = folder();
    let file = folder.path().join("address");
    let settings = Settings { met: met(folder.path().join("handoff.sock")).met, ..read_from(&file) };
    moves(&settings, &file, |_| Some(Process::start(&settings)));
}

#[test]
fn with_axum_serve_the_old_process_closes_its_own_too() {
    let folder = folder();
    let file = folder.path().join("address");
    moves(&Settings { alone: true, ..read_from(&file) }, &file, |old| {
        old.signal(Signal::HUP);
        None
    });
}

#[test]
fn the_same_address_in_other_words_is_the_same() {
    let folder = folder();
    let file = folder.path().join("address");
    let addr = free_address();
    fs::write(&file, addr.to_string()).unwrap();
    let service = Process::start(&read_from(&file));
    assert_eq!(service.addr(), addr);
    for (generation, text) in
        (1..).zip([format!("localhost:{}", addr.port()), "127.0.0.1:0".to_owned(), addr.to_string()])
    {
        fs::write(&file, text).unwrap();
        who(addr).signal(Signal::HUP);
        wait_for_generation(addr, generation);
        service.hear("is alone");
    }
    who(addr).signal(Signal::TERM);
}

#[test]
fn an_address_that_cannot_be_bound_beside_the_old_one_fails_the_hand_over_and_is_named() {
    let folder = folder();
    let file = folder.path().join("address");
    let addr = free_address();
    fs::write(&file, addr.to_string()).unwrap();
    let service = Process::start(&read_from(&file));
    assert_eq!(service.addr(), addr);
    let old = who(addr);
    fs::write(&file, format!("0.0.0.0:{}", addr.port())).unwrap();
    old.signal(Signal::HUP);
    let reason = service.hear("fails ");
    let says = format!("the address of \"http\" is to change from {addr} to 0.0.0.0:{}", addr.port());
    assert!(reason.contains(&says), "{reason}");
    service.hear("failed ");
    assert_eq!(who(addr), old);
    old.signal(Signal::TERM);
    service.hear("ends ");
}
