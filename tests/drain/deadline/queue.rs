//! Connections that the kernel has completed and no process has accepted; and accepting on for a while.

use std::{io::Read, net::TcpListener, thread, time::Duration};

use super::service::routes;
use crate::support::{
    http::Client,
    running::{Running, TICK, connections},
};

const ROUNDS: usize = 20;
const CLIENTS: usize = 8;
const LAME_DUCK: Duration = Duration::from_millis(300);

#[test]
fn the_queue_of_an_own_listener_is_served_to_its_end() {
    let running = Running::start(routes(), |server| server.max_connections(1));
    let mut only = running.connect();
    assert_eq!(only.get("/").unwrap().text(), "hello");
    // As many more wait as one is too many.
    let mut queued: Vec<_> = (0..100).map(|_| running.connect()).collect();
    let (silent, asking) = queued.split_at_mut(50);
    asking.iter_mut().for_each(|client| client.ask("/").unwrap());
    assert_eq!(running.now().accepted, 1);

    running.start_drain();
    for client in asking {
        let answer = client.answer().unwrap();
        assert_eq!((answer.text(), answer.says_close()), ("hello", true));
        assert_eq!(client.rest().unwrap(), b"");
    }
    // Who has not sent anything yet may, within the keep-alive grace.
    for client in silent {
        assert!(client.get("/").unwrap().says_close());
        assert_eq!(client.rest().unwrap(), b"");
    }
    assert!(Client::connect(running.addr).is_err(), "it is closed");
    drop((only, queued));
    let report = running.report();
    assert_eq!((connections(&report)[2..].to_vec(), report.listeners[0].requests), (vec![0, 0], 101));
}

#[test]
fn the_queue_of_a_socket_that_others_hold_is_left_to_them() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::on(&socket, routes(), |server| server.max_connections(1).keep_alive_grace(Duration::ZERO));
    let mut only = running.connect();
    assert_eq!(only.get("/").unwrap().text(), "hello");
    let mut queued = running.connect();
    queued.ask("/").unwrap();
    let report = running.end();
    assert_eq!(connections(&report), [0, 1, 0, 0]);

    socket.set_nonblocking(false).unwrap();
    let (mut stream, peer) = socket.accept().unwrap();
    assert_eq!(peer, queued.local_addr());
    let mut request = [0; 6];
    stream.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"GET / ");
}

#[test]
fn a_lame_duck_accepts_on_and_says_close() {
    let running = Running::start_paused(routes(), |server| server.lame_duck(LAME_DUCK));
    running.start_drain();
    let mut served = 0;
    let mut serve = |mut client: Client| {
        assert!(client.get("/").unwrap().says_close());
        served += 1;
    };
    serve(running.connect());
    running.advance(LAME_DUCK - TICK);
    serve(running.connect());
    running.advance(TICK);
    while let Ok(client) = Client::connect(running.addr) {
        serve(client);
    }
    let report = running.report();
    assert_eq!(report.elapsed, LAME_DUCK, "{report}");
    assert_eq!(connections(&report), [served, 0, 0, 0]);
}

/// Between the last look at the queue and the close, no connection comes: who connects then is refused, and never reset.
#[test]
fn who_connects_to_an_own_listener_while_it_closes_is_served_or_refused() {
    for _ in 0..ROUNDS {
        let running = Running::start(routes(), |server| server);
        let addr = running.addr;
        let knock = move || {
            let mut served = 0_u64;
            while let Ok(mut client) = Client::connect(addr) {
                assert_eq!(client.get("/").expect("a connection that is served").text(), "hello");
                served += 1;
            }
            served
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(knock)).collect();
        running.wait(|now| now.requests > 200);
        let report = running.end();
        let served: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!((report.listeners[0].requests, connections(&report)), (served, [served, 0, 0, 0]));
    }
}
