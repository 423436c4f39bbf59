//! Which connections move, and what becomes of the others.

use std::{net::TcpStream, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

use crate::support::{
    http::Client,
    service::{Service, assert_moves, who},
};

#[test]
fn idle_connections_move_whatever_was_read_of_their_next_request() {
    let service = Service::start("");
    let old = service.who();
    let mut untouched = service.connect();
    let mut idle = service.connect();
    assert_eq!(who(&mut idle), old);
    let mut halfway = service.connect();
    halfway.send("GET /wh").unwrap();
    let mut pipelining = service.connect();
    assert_eq!(who(&mut pipelining), old);
    pipelining.send("GET /1 HTTP/1.1\r\nHost: test\r\n\r\nGET /2 HTTP/1.1\r\nHost: test\r\n\r\nGET /who HT").unwrap();
    assert_eq!((pipelining.answer().unwrap().text(), pipelining.answer().unwrap().text()), ("1", "2"));

    let new = service.hand_over();
    service.wait_for_end(old.pid);
    assert_moves(&mut untouched, new);
    assert_moves(&mut idle, new);
    halfway.send("o HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(halfway.answer().unwrap().text().parse(), Ok(new));
    pipelining.send("TP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(pipelining.answer().unwrap().text().parse(), Ok(new));
    service.end();
}

#[test]
fn a_request_in_flight_is_answered_by_the_old_one_without_a_close_and_then_its_connection_moves() {
    let service = Service::start("");
    let old = service.who();
    service.gate("gate");
    let mut slow = service.connect();
    slow.ask("/slow/gate/7").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    let mut sending = service.connect();
    sending.send("POST /8 HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc").unwrap();
    while !sending.is_read() {}
    let new = service.hand_over();
    sending.send("def").unwrap();
    service.open("gate");
    for (client, body) in [(&mut slow, "7"), (&mut sending, "abcdef")] {
        let answer = client.answer().unwrap();
        assert_eq!(answer.text(), body);
        assert!(!answer.says_close(), "{answer:?}");
        assert_moves(client, new);
    }
    service.wait_for_end(old.pid);
    service.end();
}

#[test]
fn a_name_with_until_done_moves_as_all_others_do() {
    let service = Service::start("until_done=1");
    let old = service.who();
    service.gate("gate");
    let (mut idle, mut slow) = (service.connect(), service.connect());
    assert_eq!(who(&mut idle), old);
    slow.ask("/slow/gate/7").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    let new = service.hand_over();
    assert_moves(&mut idle, new);
    assert_eq!(service.who(), new, "the new process alone accepts");
    service.open("gate");
    assert_eq!(slow.answer().unwrap().text(), "7");
    assert_moves(&mut slow, new);
    service.wait_for_end(old.pid);
    service.end();
}

#[test]
fn a_name_that_the_next_version_does_not_have_is_drained_by_the_old_one_and_its_listener_closed() {
    let service = Service::start("names=http,admin");
    let admin = service.address("admin");
    let old = service.who();
    let (mut plain, mut dropped) = (service.connect(), Client::connect(admin).unwrap());
    assert_eq!((who(&mut plain), who(&mut dropped)), (old, old));
    service.plan("routes", "drop admin");
    let new = service.hand_over();
    assert_moves(&mut plain, new);
    let answer = dropped.get("/who").unwrap();
    assert_eq!(answer.text().parse(), Ok(old), "served on where it was");
    assert!(answer.says_close(), "{answer:?}");
    assert_eq!(dropped.rest().unwrap(), b"");
    service.wait_for_end(old.pid);
    assert!(TcpStream::connect(admin).is_err(), "no process listens there any more");
    assert_moves(&mut plain, new);
    service.hand_over();
    service.end();
}

/// What does not fit is no reason to let a client wait.
#[test]
fn connections_that_the_next_process_has_no_room_for_are_served_where_they_are() {
    // None is closed before its client has asked, however slow the machine is.
    let service = Service::start("keep_alive_grace=60000");
    let old = service.who();
    let mut idle: Vec<_> = (0..300).map(|_| service.connect()).collect();
    idle.iter_mut().for_each(|idle| assert_eq!(who(idle), old));
    service.plan("start", "limit 200");
    let new = service.hand_over();
    // What is answered by the old one, and not as the last, is about to move.
    let (mut moved, mut stayed) = (0, 0);
    for idle in &mut idle {
        service.eventually("it moves or is closed", || {
            let answer = idle.get("/who").unwrap();
            let (is_last, who) = (answer.says_close(), answer.text().parse());
            let has_moved = who == Ok(new);
            assert!(has_moved || who == Ok(old), "{answer:?}");
            stayed += usize::from(is_last);
            moved += usize::from(has_moved && !is_last);
            is_last || has_moved
        });
    }
    assert!(moved > 0 && stayed > 0, "{moved} have moved, {stayed} have not");
    service.wait_for_end(old.pid);
    let report = service.wait_for_word(old.pid, "ends ");
    assert!(report.contains(" 0 errors, 0 aborted"), "{report}");
    assert!(report.contains(&format!(", {stayed} not moved ({stayed} no_room)")), "{report}");
    service.hand_over();
    service.end();
}

/// Fails unless a connection is closed at its limit though it moves again and again, each time before the limit.
#[track_caller]
fn ends_though_it_moves(limit: &str, begin: fn(&mut Client)) {
    const MOVES: usize = 3;
    // A machine that is too slow for so many moves has more time.
    for milliseconds in [1_000, 4_000, 16_000] {
        let service = Service::start(&format!("{limit}={milliseconds}"));
        let mut client = service.connect();
        begin(&mut client);
        let mut moves = 0;
        service.eventually(&format!("its end at the {limit} of {milliseconds} ms"), || {
            let is_over = !matches!(client.is_over(), Ok(false));
            if !is_over {
                service.hand_over();
                moves += 1;
            }
            is_over
        });
        service.end();
        if moves > MOVES {
            return;
        }
    }
    panic!("this machine is too slow");
}

#[test]
fn request_headers_have_one_limit_in_all_processes() {
    ends_though_it_moves("header_timeout", |client| client.send("GET /wh").unwrap());
}

#[test]
fn an_idle_connection_has_one_limit_in_all_processes() {
    ends_though_it_moves("idle_timeout", |client| _ = who(client));
}

#[test]
fn a_connection_has_one_age_in_all_processes() {
    ends_though_it_moves("max_age", |client| _ = who(client));
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_and_event_streams_end_by_their_tokens_while_plain_connections_move() {
    let service = Service::start("");
    let old = service.who();
    let mut plain = service.connect();
    assert_eq!(who(&mut plain), old);
    let mut events = service.connect();
    events.ask("/events").unwrap();
    let (status, head) = events.headers().unwrap();
    assert_eq!(status, 200, "{head}");
    let stream = tokio::net::TcpStream::connect(service.addr).await.unwrap();
    let (mut echo, _) = client_async("ws://test/echo", stream).await.unwrap();
    echo.send(Message::text("hello")).await.unwrap();
    assert_eq!(echo.next().await.unwrap().unwrap(), Message::text("hello"));

    let new = service.hand_over();
    let close = timeout(Duration::from_secs(30), echo.next()).await.unwrap().unwrap().unwrap();
    let Message::Close(Some(close)) = close else { panic!("no close frame: {close}") };
    assert_eq!(close.code, CloseCode::Restart);
    assert!(echo.next().await.is_none(), "and then the connection ends in order");
    let mut body = Vec::new();
    while !body.ends_with(b"0\r\n\r\n") {
        body.extend(events.take(1).unwrap());
    }
    assert!(String::from_utf8(body).unwrap().contains("data: bye\n\n"));
    assert_moves(&mut events, new);
    assert_moves(&mut plain, new);
    service.wait_for_end(old.pid);
    let report = service.wait_for_word(old.pid, "ends ");
    assert!(report.contains(" 0 errors, 0 aborted"), "{report}");
    service.end();
}
