//! A connection is with one process at a time, also where the other one breaks the protocol or stops in the middle of it.
//!
//! Needs root, as the test takes descriptors of the service's processes (`pidfd_getfd(2)`), and Debian's package python3.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SendFlags, SocketType, send, sockopt},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open},
};

use crate::support::{http::Client, needs, service::Service, wait::until};

/// No drain ends at its deadline while a test waits for something else.
const LONG: &str = "drain_timeout=600000";

/// The inode of the socket that a descriptor of that process is, by its number.
fn sockets(pid: u32) -> HashMap<i32, u64> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let socket = |fd: fs::DirEntry| {
        let target = fs::read_link(fd.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((fd.file_name().to_str()?.parse().ok()?, inode))
    };
    fds.filter_map(socket).collect()
}

/// A copy of the control socket that the process has; `None` if it has none.
fn control_socket(pid: u32) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid.try_into().unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    let copies = sockets(pid).into_keys().filter_map(|fd| pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok());
    let mut found = copies.filter(|copy| sockopt::socket_type(copy).is_ok_and(|kind| kind == SocketType::SEQPACKET));
    found.next()
}

/// The inode of the server's end of each connection to `addr`, by the port of its client.
fn connections(addr: SocketAddr) -> HashMap<u16, u64> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let ends = rows.filter(|row| port(row[1]) == addr.port() && row[9] != "0");
    ends.map(|row| (port(row[2]), row[9].parse().unwrap())).collect()
}

fn has_answer(client: &Client) -> bool {
    client.is_over().is_err()
}

/// The successor sends what is no message, and stops before it has read what it was sent. Long after that it goes on.
#[test]
fn a_successor_that_breaks_the_protocol_and_stops_shares_no_connection_with_the_old_one() {
    const COUNT: u64 = 300;
    let service = Service::start(LONG);
    let old = service.who();
    service.gate("gate");
    // Each is being answered at the commit, and has long read ahead of its next request: a few of them fill the control socket.
    let mut clients: Vec<_> = (1..=COUNT).map(|_| service.connect()).collect();
    for (id, client) in (1..).zip(&mut clients) {
        let next = format!("GET /{} HTTP/1.1\r\nHost: test\r\nX-Pad: {}", COUNT + id, "x".repeat(3900));
        client.send(format!("GET /slow/gate/{id} HTTP/1.1\r\nHost: test\r\n\r\n{next}")).unwrap();
    }
    service.wait_for_some(COUNT.try_into().unwrap(), |line| line.text == "holds gate");
    let new = service.hand_over();
    let inodes = connections(service.addr);
    let (its_end, our_end) = (control_socket(new.pid).unwrap(), control_socket(old.pid).unwrap());

    service.signal(new.pid, Signal::STOP);
    (0..COUNT).for_each(|_| service.open("gate"));
    for (id, client) in (1..=COUNT).zip(&mut clients) {
        assert_eq!(client.answer().unwrap().text(), id.to_string());
    }
    service.eventually("nothing more fits into the control socket", || {
        poll(&mut [PollFd::new(&our_end, PollFlags::OUT)], Some(&Timespec::default())).unwrap() == 0
    });
    send(&its_end, b"x", SendFlags::empty()).unwrap();
    for client in &mut clients {
        client.send("\r\n\r\n").unwrap();
    }
    service.eventually("what was not sent is served where it is", || clients.iter().any(has_answer));
    // Nothing is to happen with the others in this time.
    until(Instant::now() + Duration::from_millis(1500));
    service.signal(new.pid, Signal::CONT);
    drop((its_end, our_end));
    service.eventually("the successor has all that it takes", || control_socket(new.pid).is_none());

    for (id, client) in (COUNT + 1..).zip(&mut clients) {
        assert_eq!(client.answer().unwrap().text(), id.to_string());
    }
    let processed = service.processed();
    processed.assert_each_once(2 * COUNT);
    let theirs = sockets(new.pid);
    let is_theirs = |inode: &u64| theirs.values().any(|other| other == inode);
    let port = |client: &Client| client.local_addr().port();
    let by_old = |id: &u64| processed.ids_of(old.pid).contains(id);
    let both = (COUNT + 1..).zip(&clients).filter(|(id, client)| by_old(id) && is_theirs(&inodes[&port(client)]));
    assert_eq!(both.count(), 0, "connections are with both processes");
    assert!(processed.by(new.pid) > 0 && processed.by(old.pid) > usize::try_from(COUNT).unwrap());
    service.wait_for_end(old.pid);
    service.end();
}

/// Connections that become idle after that have nowhere to go, and are not sent there again and again.
#[test]
fn a_successor_that_leaves_gets_no_more_connections_and_each_ends_where_it_is() {
    needs::program("python3", "python3");
    const IDLE: usize = 5;
    const BUSY: u64 = 5;
    let mut service = Service::start(LONG);
    let old = service.who();
    let mut idle: Vec<_> = (0..IDLE).map(|_| service.connect()).collect();
    idle.iter_mut().for_each(|idle| drop(idle.get("/who").unwrap()));
    service.gate("gate");
    let mut busy: Vec<_> = (0..BUSY).map(|_| service.connect()).collect();
    for (id, busy) in (0..).zip(&mut busy) {
        busy.ask(&format!("/slow/gate/{id}")).unwrap();
    }
    service.wait_for_some(busy.len(), |line| line.text == "holds gate");
    service.plan("start", &format!("peer leave_unanswered {IDLE}"));
    let peer = service.ask_to_hand_over().unwrap();
    service.wait_for_word(peer, "has left");

    (0..BUSY).for_each(|_| service.open("gate"));
    for (id, busy) in (0..BUSY).zip(&mut busy) {
        assert_eq!(busy.answer().unwrap().text(), id.to_string());
        assert_eq!(busy.rest().unwrap(), b"", "it ends here");
    }
    // What was sent and not answered comes back, with what its client has sent meanwhile. The connection that asked for the handoff may be
    // among it, in place of one that has ended by now.
    let asked = idle.iter_mut().map(|idle| idle.ask("/who").is_ok()).collect::<Vec<_>>();
    service.signal(peer, Signal::KILL);
    let answers = idle.iter_mut().zip(asked).filter(|(_, asked)| *asked).filter_map(|(idle, _)| idle.answer().ok());
    let answers: Vec<_> = answers.map(|answer| answer.text().parse()).collect();
    assert!(answers.len() + 1 >= IDLE && answers.iter().all(|who| *who == Ok(old)), "{answers:?}");
    service.wait_for_all();
    let log = fs::read_to_string(service.folder().join("log")).unwrap();
    let came_back = log.lines().filter(|line| line.contains("a connection that was to leave is served on")).count();
    assert!(came_back <= IDLE + busy.len() + 1, "{came_back} times: {}", service.log());
}
