//! `O_NONBLOCK` belongs to the open file description: each process that shares a socket can clear it under a process that accepts.

use std::{
    net::TcpStream,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use axum_activation::ActivatedListeners;
use rustix::fs::OFlags;
use tempfile::tempdir;
use tokio::runtime::Builder;

use crate::support::{sockets, wait::eventually};

/// What happened in the single-threaded runtime.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Accepted,
    /// Another task had its turn after the connection was accepted.
    OtherTaskRan,
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

fn clear_nonblocking(fd: impl AsFd) {
    let flags = rustix::fs::fcntl_getfl(&fd).unwrap();
    rustix::fs::fcntl_setfl(fd, flags - OFlags::NONBLOCK).unwrap();
}

/// Accepts on a thread of its own, as the only thing that thread does, and reports.
fn accept_on_one_thread(socket: OwnedFd) -> Receiver<Event> {
    let (sender, events) = channel();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    thread::spawn(move || runtime.block_on(accept_forever(socket, sender)));
    events
}

async fn accept_forever(socket: OwnedFd, sender: Sender<Event>) {
    let set = ActivatedListeners::builder().socket("http", socket).build().unwrap();
    let mut listener = set.one("http").unwrap();
    loop {
        let (stream, _) = listener.accept().await;
        if sender.send(Event::Accepted).is_err() {
            return;
        }
        let sender = sender.clone();
        tokio::spawn(async move {
            drop(stream);
            let _ = sender.send(Event::OtherTaskRan);
        });
    }
}

/// Clears the flag before every connection: the runtime's only thread must come back each time, with the flag set.
fn goes_on<C>(socket: OwnedFd, connect: impl Fn() -> C) {
    let same_description = sockets::copy(&socket);
    let events = accept_on_one_thread(socket);
    eventually("the flag is set when the socket is taken", || is_nonblocking(&same_description));
    for _ in 0..20 {
        clear_nonblocking(&same_description);
        let _client = connect();
        for expected in [Event::Accepted, Event::OtherTaskRan] {
            let event = events.recv_timeout(Duration::from_secs(20)).expect("accept blocks the runtime");
            assert_eq!(event, expected);
        }
        eventually("the flag is set again", || is_nonblocking(&same_description));
    }
}

#[test]
fn a_cleared_flag_does_not_stop_the_runtime_of_a_tcp_listener() {
    let socket = sockets::tcp();
    let addr = socket.local_addr().unwrap();
    goes_on(socket.into(), || TcpStream::connect(addr).unwrap());
}

#[test]
fn a_cleared_flag_does_not_stop_the_runtime_of_a_unix_listener() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let socket = UnixListener::bind(&path).unwrap();
    goes_on(socket.into(), || UnixStream::connect(&path).unwrap());
}
