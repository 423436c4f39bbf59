//! What does not end by itself is aborted at the deadline, and counted.

use std::{sync::mpsc::channel, time::Duration};

use axum::routing::get;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::service::{Gate, gated, routes};
use crate::support::{
    http::Client,
    running::{Running, connections},
};

const STUCK: usize = 1000;
const TIMEOUT: Duration = Duration::from_millis(500);

#[test]
fn a_thousand_stuck_connections_are_aborted_in_time_and_counted() {
    allow_open_files(4 * STUCK as u64);
    let running = Running::start_paused(routes(), |server| server.drain_timeout(TIMEOUT));
    let mut clients: Vec<_> = (0..STUCK).map(|_| running.connect()).collect();
    clients.iter_mut().for_each(|client| client.ask("/stuck").unwrap());
    running.wait(|now| now.in_flight == STUCK as u64);

    let report = running.end_after(TIMEOUT);
    println!("{report}");
    assert_eq!((connections(&report), report.stuck), ([0, 0, 0, STUCK as u64], 0));
    assert!(!report.is_clean());
    for client in &mut clients {
        assert_eq!(client.rest().unwrap(), b"", "the whole request was read, so this is no reset");
    }
}

#[test]
fn a_handler_that_blocks_its_thread_is_left_behind_and_counted_as_stuck() {
    let (unblock, blocked) = channel::<()>();
    let blocked = std::sync::Arc::new(std::sync::Mutex::new(blocked));
    let block = async move || {
        let _ = blocked.lock().unwrap().recv();
    };
    let running = Running::start(routes().route("/block", get(block)), |server| server.drain_timeout(TIMEOUT));
    let mut blocking = running.connect();
    blocking.ask("/block").unwrap();
    running.wait(|now| now.in_flight == 1);

    let report = running.end();
    assert!(report.elapsed >= TIMEOUT, "{report}");
    assert_eq!((connections(&report), report.stuck), ([0, 0, 0, 0], 1));
    assert!(!report.is_clean());
    drop(unblock);
}

#[test]
fn a_response_body_that_never_ends_is_aborted() {
    let [mut client] = aborted([|client: &mut Client| client.ask("/endless").unwrap()]);
    let (status, head) = client.headers().unwrap();
    assert!(status == 200 && head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(client.rest().unwrap(), b"8\r\nfor ever\r\n", "it has no end, so the client knows");
}

#[test]
fn a_request_body_that_never_ends_is_aborted() {
    const HEAD: &str = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf of it";
    let [mut client] = aborted([|client: &mut Client| client.send(HEAD).unwrap()]);
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn a_client_that_never_reads_its_response_is_aborted() {
    aborted([|client: &mut Client| client.ask("/big").unwrap(), |client: &mut Client| client.ask("/chunks").unwrap()]);
}

#[test]
fn what_is_in_flight_finishes_within_the_deadline() {
    let gate = Gate::closed();
    let running = Running::start(gated(&gate), |server| server);
    let mut client = running.connect();
    client.ask("/gate").unwrap();
    running.wait(|now| now.in_flight == 1);
    running.start_drain();
    gate.open();
    let answer = client.answer().unwrap();
    assert_eq!((answer.text(), answer.says_close()), ("passed", true));
    assert_eq!(client.rest().unwrap(), b"");
    let report = running.report();
    assert_eq!(connections(&report), [1, 0, 0, 0]);
    assert!(report.is_clean());
}

#[test]
fn a_response_under_way_goes_on_to_its_end_and_then_the_connection_is_idle() {
    let running = Running::start(routes(), |server| server);
    let mut client = running.connect();
    client.ask("/chunks").unwrap();
    let (_, head) = client.headers().unwrap();
    assert!(!head.contains("connection: close"), "{head}");
    running.start_drain();
    // Its head has not said that it is the last, so one more may be asked for, as on any idle connection.
    let body = client.rest().unwrap();
    assert!(body.len() > super::service::BIG && body.ends_with(b"\r\n0\r\n\r\n"), "{}", body.len());
    assert_eq!(connections(&running.report()), [0, 1, 0, 0]);
}

#[test]
fn a_request_under_way_is_read_to_its_end_and_answered() {
    let running = Running::start(routes(), |server| server);
    let mut client = running.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe").unwrap();
    running.wait(|now| now.in_flight == 1);
    running.start_drain();
    client.send("llo").unwrap();
    let answer = client.answer().unwrap();
    assert_eq!((answer.text(), answer.says_close()), ("hello", true));
    assert_eq!(connections(&running.report()), [1, 0, 0, 0]);
}

/// Both ends of each connection are in this process.
fn allow_open_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        let raised = Rlimit { current: Some(count), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).expect("this test needs 4000 open files: ulimit -Hn 4096");
    }
}

/// Clients that do so are aborted, in time: the clients then.
fn aborted<const N: usize>(clients: [fn(&mut Client); N]) -> [Client; N] {
    let running =
        Running::start_paused(routes(), |server| server.drain_timeout(TIMEOUT).keep_alive_grace(Duration::ZERO));
    let clients = clients.map(|send| {
        let mut client = running.connect();
        send(&mut client);
        client
    });
    // What goes to a client that does not read is no longer in flight, once it is all in the hands of hyper.
    running.wait(|now| now.accepted == N as u64 && now.in_flight + now.requests == N as u64);
    let report = running.end_after(TIMEOUT);
    assert_eq!((connections(&report), report.stuck), ([0, 0, 0, N as u64], 0), "{report}");
    clients
}
