//! A service that leaves when idle, and clients that come just then.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    systemd::{Systemd, shipped},
    wait::{eventually, until},
};

const UNIT: &str = "idle.service";
const EXITS: usize = 50;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n";

/// How long the service stays, in milliseconds: that, and up to an eighth longer.
const IDLE: u64 = 160;

#[test]
fn fifty_times_a_client_that_comes_as_the_service_leaves_is_served() {
    let (name, service) = shipped(UNIT);
    assert!(service.contains("idle 60"), "{service}");
    let systemd = Systemd::boot(&[shipped("idle.socket"), (name, service.replace("idle 60", "idle 0.16"))]);
    let processes = thread::scope(|scope| scope.spawn(|| come_and_go(&systemd)).join().unwrap());
    println!("{} requests, {} processes", processes.len(), distinct(&processes));
    let stayed = processes.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(stayed > 0, "some came before it left, or this test proves nothing: {processes:?}");
    eventually("it leaves", || systemd.property(UNIT, "ActiveState") == "inactive");
    assert_eq!(systemd.property(UNIT, "NRestarts"), "0", "only who connects starts it");
    assert_eq!(
        systemd.log(UNIT).matches(", 0 errors, 0 aborted").count(),
        distinct(&processes),
        "{}",
        systemd.log(UNIT)
    );
    assert!(!systemd.console().contains("Failed"), "{}", systemd.console());
}

/// Which process has answered each request, until enough of them have left.
fn come_and_go(systemd: &Systemd) -> Vec<String> {
    systemd.enter_network();
    let mut processes = Vec::new();
    // Closer and closer around the moment of leaving: before it, at it, after it.
    for round in 0.. {
        processes.push(answer().unwrap_or_else(|error| panic!("request {round} is lost: {error}")));
        if distinct(&processes) > EXITS {
            return processes;
        }
        until(Instant::now() + Duration::from_millis(IDLE - 4 + round % 32));
    }
    unreachable!("it leaves")
}

fn answer() -> std::io::Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:8080")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(REQUEST)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.strip_prefix("HTTP/1.1 200 OK\r\n").and_then(|rest| rest.split("\r\n\r\n").nth(1));
    body.map(|body| body.trim_end().to_owned()).ok_or(std::io::Error::other(answer))
}

fn distinct(processes: &[String]) -> usize {
    processes.iter().collect::<HashSet<_>>().len()
}
