//! What the next process makes of connections that were kept.

use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use super::service::Service;
use crate::support::{http::Client, wait::eventually};

/// A service that has stopped, and a connection that it has stored.
fn stopped() -> (Service, Client) {
    let mut service = Service::new();
    let child = service.start();
    let client = service.connect();
    service.stop(child);
    assert_eq!(service.names(), ["aa.l/http", "aa.c", "aa.c"]);
    (service, client)
}

#[test]
fn nothing_is_read_from_a_connection_before_the_manager_has_none_of_them_any_more() {
    let (mut service, mut client) = stopped();
    let before = service.manager.values("BARRIER").len();
    service.manager.turn_deaf();
    let _child = service.start_deaf();
    client.ask("/2").unwrap();
    assert_eq!(service.connect().get("/3").unwrap().text(), "3", "new connections are served");
    assert!(!client.is_read() && !client.is_over().unwrap());
    service.manager.listen_again();
    assert_eq!(client.answer().unwrap().text(), "2");
    service.wait_until_ready();
    service.manager.wait("it asks for an answer", |manager| manager.values("BARRIER").len() > before);
    let texts = service.manager.texts();
    let removed = texts.iter().position(|text| text == "FDSTOREREMOVE=1\nFDNAME=aa.c\n").unwrap();
    assert_eq!(texts[removed + 1..].iter().find(|text| !text.contains("STATUS=")).unwrap(), "BARRIER=1\n", "{texts:?}");
    service.has_one_listener();
}

#[test]
fn they_are_hidden_from_the_program() {
    let (mut service, mut client) = stopped();
    let _child = service.start();
    assert_eq!(client.get("/names").unwrap().text(), "http");
}

#[test]
fn those_of_which_nothing_is_known_are_closed() {
    let (mut service, mut client) = stopped();
    let (stranger, _listener) = stranger();
    service.stored[1] = ("aa.c".to_owned(), stranger.try_clone().unwrap().into());
    let _child = service.start();
    drop(stranger);
    // The test's own copy would keep it open.
    service.look();
    service.stored.clear();
    assert!(client.rest().unwrap().is_empty());
    service.connect();
}

#[test]
fn what_another_process_has_taken_is_not_taken_again_though_the_manager_still_has_it() {
    let (mut service, mut client) = stopped();
    let again: Vec<_> = service.stored.iter().map(|(name, fd)| (name.clone(), fd.try_clone().unwrap())).collect();
    let child = service.start();
    assert_eq!(client.get("/2").unwrap().text(), "2");
    child.signal(Signal::KILL);
    drop(child);
    service.look();
    service.stored = again;
    let _child = service.start();
    service.look();
    service.stored.clear();
    assert!(client.rest().is_ok_and(|rest| rest.is_empty()), "where in its bytes it is cannot be known");
}

#[test]
fn one_whose_client_has_hung_up_is_closed() {
    let (mut service, client) = stopped();
    drop(client);
    let _child = service.start();
    service.has_one_listener();
    service.connect();
}

#[test]
fn a_process_that_never_serves_leaves_them_to_the_next() {
    let (mut service, mut client) = stopped();
    // It cannot bind that.
    let address = std::mem::replace(&mut service.address, "192.0.2.1:1".to_owned());
    drop(service.start_deaf());
    service.address = address;
    service.look();
    let _child = {
        let child = service.start_deaf();
        eventually("it serves", || TcpStream::connect(&service.address).is_ok());
        child
    };
    assert_eq!(client.get("/2").unwrap().text(), "2");
}

/// One end of a connection that no service knows.
fn stranger() -> (TcpStream, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener)
}

#[test]
fn a_stop_while_the_manager_does_not_answer_begins_the_drain_at_once_and_keeps_the_connections_again() {
    let mut service = Service::new();
    let child = service.start();
    let mut kept = service.connect();
    service.stop(child);

    service.manager.hold_barriers();
    let before = service.manager.texts().len();
    let mut child = service.start();
    service.manager.wait("it is to forget the connections", |manager| {
        manager.texts()[before..].iter().any(|text| text == "BARRIER=1\n")
    });
    let mut busy = service.connect();
    busy.ask("/hold").unwrap();
    child.signal(Signal::TERM);
    service
        .manager
        .wait("it stops", |manager| manager.texts()[before..].iter().any(|text| text.contains("STOPPING=1")));
    child.tell("open");
    assert_eq!(busy.answer().unwrap().text(), "draining: true, for good: true");
    service.manager.answer_barriers();
    child.finish();
    service.look();

    let child = service.start();
    for client in [&mut kept, &mut busy] {
        assert_eq!(client.get("/pid").unwrap().text(), child.pid().as_raw_nonzero().to_string());
    }
}
