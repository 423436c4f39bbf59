//! A subscriber that panics at each event: the service drains, hands over and rolls back as with any other.
//!
//! `tracing_subscriber::fmt` is one when the reader of standard error is gone: it prints that it cannot write with `eprintln!`,
//! which panics.

use std::{fs, net::TcpStream, process::Command};

use rustix::process::Signal;

use crate::support::{
    http::Client,
    service::{Service, assert_clean, assert_moves, program_in, who},
};

/// Becomes a program whose standard error is a pipe that no process reads.
const NO_READER: &str = r#"mkfifo "$0.stderr" && exec 3<>"$0.stderr" 2>"$0.stderr" 3<&- && exec "$0" "$@""#;

/// How many requests are under way.
const UNDER_WAY: u64 = 5;

/// Does it with each subscriber that panics, in each flavor of the runtime.
#[track_caller]
fn each(act: impl Fn(Service)) {
    for flavor in ["current_thread=0", "current_thread=1"] {
        let no_reader = Service::start_as(flavor, |folder| {
            let mut command = Command::new("sh");
            command.args(["-c", NO_READER]).arg(program_in(folder));
            command
        });
        let pipe = fs::read_link(format!("/proc/{}/fd/2", no_reader.who().pid)).unwrap();
        assert!(pipe.ends_with("program.stderr"), "{pipe:?}");
        act(no_reader);

        let layer = Service::start(&format!("panicking_layer=1 {flavor}"));
        let log = fs::read_to_string(layer.folder().join("log")).unwrap();
        assert!(log.contains("as planned at an event of axum_activation"), "{log}");
        act(layer);
    }
}

/// Requests that are being answered until [`let_on`].
fn under_way(service: &Service) -> Vec<Client> {
    let ask = |id| {
        service.gate(&format!("gate{id}"));
        let mut client = service.connect();
        client.ask(&format!("/slow/gate{id}/{id}")).unwrap();
        client
    };
    let wires: Vec<_> = (1..=UNDER_WAY).map(ask).collect();
    service.wait_for_some(wires.len(), |line| line.text.starts_with("holds gate"));
    wires
}

#[track_caller]
fn let_on(service: &Service, mut wires: Vec<Client>) {
    for (id, client) in (1..=UNDER_WAY).zip(&mut wires) {
        service.open(&format!("gate{id}"));
        assert_eq!(client.answer().unwrap().text(), id.to_string());
    }
}

#[test]
fn a_drain_loses_no_request() {
    each(|mut service| {
        let wires = under_way(&service);
        service.signal(service.who().pid, Signal::TERM);
        service.eventually("it accepts no more", || TcpStream::connect(service.addr).is_err());
        let_on(&service, wires);
        let (lines, processed) = service.wait_for_all();
        assert_clean(&lines);
        processed.assert_each_once(UNDER_WAY);
    });
}

#[test]
fn a_hand_over_loses_no_request_and_closes_no_connection() {
    each(|service| {
        let old = service.who();
        let mut idle = service.connect();
        assert_eq!(who(&mut idle), old);
        let wires = under_way(&service);
        let new = service.hand_over();
        assert_moves(&mut idle, new);
        let_on(&service, wires);
        service.wait_for_end(old.pid);
        service.hand_over();
        drop(idle);
        let (lines, processed) = service.end();
        assert_clean(&lines);
        processed.assert_each_once(UNDER_WAY);
    });
}

#[test]
fn a_hand_over_that_fails_changes_nothing() {
    each(|service| {
        let old = service.who();
        let wires = under_way(&service);
        for (step, words) in [("export", "panic"), ("import", "fail a bad day"), ("ready", "abort")] {
            service.plan(step, words);
            service.ask_to_hand_over().unwrap_err();
            assert_eq!(service.who(), old);
        }
        let_on(&service, wires);
        service.ask_to_hand_over().unwrap();
        service.wait_until_after(old);
        let (_, processed) = service.end();
        processed.assert_each_once(UNDER_WAY);
    });
}
