//! What a process waits for before it takes over, and what ends that.

use std::{net::SocketAddr, os::unix::process::ExitStatusExt, time::Duration};

use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    harness::{Process, folder, met, wait_for_generation, who},
    process::{Plain, Settings},
};
use crate::support::http::Client;

/// A request that keeps its process draining until its body is sent.
fn held(addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr).unwrap();
    client.send("POST /held HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n").unwrap();
    while !client.is_read() {
        std::thread::yield_now();
    }
    client
}

#[track_caller]
fn let_go(client: &mut Client) {
    client.send("x").unwrap();
    assert_eq!(client.answer().unwrap().text(), "x");
}

#[test]
fn who_comes_while_as_many_generations_drain_as_may_waits_or_is_refused_with_the_reason() {
    let folder = folder();
    let settings = Settings { handoff_timeout: Some(2000), ..met(folder.path().join("handoff.sock")) };
    let first = Process::start(&settings);
    let addr = first.addr();
    let mut oldest = held(addr);
    let second = Process::start(&settings);
    wait_for_generation(addr, 1);
    let mut older = held(addr);
    let third = Process::start(&settings);
    wait_for_generation(addr, 2);

    let refused = Process::start(&settings).failed();
    assert!(refused.contains("2 older generations still drain after 2s (handoff_timeout)"), "{refused}");
    let fourth = Process::start(&settings);
    assert_eq!(who(addr).generation, 2);
    let_go(&mut oldest);
    first.ended();
    wait_for_generation(addr, 3);
    let_go(&mut older);
    second.ended();
    third.ended();
    fourth.signal(Signal::TERM);
    fourth.ended();
}

#[test]
fn a_stop_ends_a_process_that_waits_for_one_that_does_not_answer() {
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let silent = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    silent.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    silent.listen(1).unwrap();
    // Longer than this test waits for anything.
    let settings = Settings { handoff_timeout: Some(600_000), ..met(path) };
    let mut new = Process::start(&settings);
    let (control, _) = silent.accept().unwrap();
    control.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut packet = [0; 1024];
    let receive =
        |packet: &mut [u8; 1024]| rustix::net::recv(&control, packet, rustix::net::RecvFlags::empty()).unwrap().0;
    assert!(receive(&mut packet) > 2, "it joins");

    new.signal(Signal::TERM);
    assert_eq!(receive(&mut packet), 0, "the kernel has closed its side");
    assert_eq!(new.status().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn a_plain_successor_is_refused_where_a_socket_would_block_another_server() {
    let settings = Settings { plain: Some(Plain::Lives(100)), beside: true, ..Settings::default() };
    let service = Process::start(&settings);
    let (addr, beside) = (service.addr(), service.hear("beside ").parse().unwrap());
    let old = who(addr);
    old.signal(Signal::HUP);
    let reason = service.hear("failed ");
    assert!(reason.contains("the socket \"beside\"") && reason.contains("serve it by a route of Server"), "{reason}");
    for addr in [addr, beside] {
        assert_eq!(who(addr), old, "both are served on");
    }
    old.signal(Signal::TERM);
    service.hear("ends ");
}
