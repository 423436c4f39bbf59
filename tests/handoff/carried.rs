//! Connections that are no idle ones of HTTP/1, with a successor that says that it takes them and then does not.

use std::fs;

use crate::support::{
    kept::{Http2, Lines},
    needs,
    service::Service,
};

/// So many of each kind.
const EACH: usize = 20;

fn clients(service: &Service) -> (Vec<Http2>, Vec<Lines>) {
    let mut http2: Vec<_> = (0..EACH).map(|_| Http2::connect(service.addr)).collect();
    let mut lines: Vec<_> = (0..EACH).map(|_| Lines::connect(service.addr)).collect();
    http2.iter_mut().for_each(|client| drop(client.get("/who").unwrap()));
    assert!(lines.iter_mut().all(|client| client.ask().0 == 1));
    (http2, lines)
}

#[test]
fn what_a_dead_successor_had_not_taken_goes_on_where_it_was() {
    needs::program("python3", "python3");
    let service = Service::start("");
    let old = service.who();
    let (mut http2, mut lines) = clients(&service);
    service.plan("start", &format!("peer carried die {}", 2 * EACH));
    let new = service.ask_to_hand_over().unwrap();
    service.wait_for_word(new, "got ");
    for client in &mut http2 {
        assert_eq!(client.get("/who").unwrap().parse(), Ok(old));
    }
    for client in &mut lines {
        assert_eq!(client.ask(), (2, old.pid));
    }
    let next = service.hand_over();
    for client in &mut http2 {
        service.eventually("it has moved", || client.get("/who").unwrap().parse() == Ok(next));
        assert!(!client.has_ended());
    }
    for client in &mut lines {
        assert_eq!(client.ask(), (3, next.pid));
    }
    service.end();
}

#[test]
fn what_the_successor_refuses_ends_in_order_where_it_was() {
    needs::program("python3", "python3");
    let service = Service::start("drain_timeout=5000");
    let old = service.who();
    let (http2, lines) = clients(&service);
    service.plan("start", &format!("peer carried refuse {}", 2 * EACH));
    let new = service.ask_to_hand_over().unwrap();
    service.wait_for_word(new, "got ");
    http2.iter().for_each(Http2::wait_for_end);
    lines.into_iter().for_each(Lines::assert_closed);
    let report = service.wait_for_word(old.pid, "ends ");
    assert!(report.contains(" 0 aborted, ") && report.ends_with(" refused)"), "{report}");
    let log = fs::read_to_string(service.folder().join("log")).unwrap();
    // The connection of the one who asked may be closed before it can move.
    let refused = log.matches("why=Refused").count();
    assert!((2 * EACH..=2 * EACH + 1).contains(&refused), "{refused} have left, none twice: {report}");
}
