//! What a process leaves when it is asked to stop.

use std::io::{Read, Write};

use rustix::process::Signal;

use super::service::Service;
use crate::support::wait::eventually;

#[test]
fn it_says_that_it_stops_then_stores_what_is_idle_then_what_becomes_idle_and_waits_until_the_manager_has_it() {
    let mut service = Service::new();
    let mut child = service.start();
    let mut idle: Vec<_> = (0..3).map(|_| service.connect()).collect();
    let mut busy = service.connect();
    busy.ask("/hold").unwrap();
    child.signal(Signal::TERM);
    service.manager.wait("the idle ones and the journal are stored", |manager| {
        manager.values("FDNAME").iter().filter(|name| *name == "aa.c").count() == 4
    });
    child.tell("open");
    let answer = busy.answer().unwrap();
    assert_eq!(answer.text(), "draining: true, for good: true", "readiness turns as at any stop");
    assert!(!answer.says_close(), "{}", answer.headers);
    child.finish();

    let texts = service.manager.texts();
    let first =
        |what: &str| texts.iter().position(|text| text.contains(what)).unwrap_or_else(|| panic!("{what}: {texts:?}"));
    let last = texts.iter().rposition(|text| text.contains("FDNAME=aa.c")).unwrap();
    assert!(first("FDNAME=aa.l/http") < first("READY=1"), "the listener is stored as soon as it serves: {texts:?}");
    assert!(first("STOPPING=1") < first("FDNAME=aa.c"), "{texts:?}");
    assert_eq!(texts[first("FDNAME=aa.c")], "FDSTORE=1\nFDNAME=aa.c\nFDPOLL=0\n", "the journal comes first");
    assert!(texts[last..].iter().any(|text| text == "BARRIER=1\n"), "{texts:?}");

    assert!(service.last_status().ends_with(" 0 aborted, 4 moved (4 http1)"), "{texts:?}");

    service.look();
    assert_eq!(service.names(), ["aa.l/http", "aa.c", "aa.c", "aa.c", "aa.c", "aa.c"]);
    let child = service.start();
    for client in idle.iter_mut().chain([&mut busy]) {
        assert_eq!(client.get("/pid").unwrap().text(), child.pid().as_raw_nonzero().to_string());
    }
    eventually("the status says so", || service.last_status().ends_with("; taken over: 4 http1"));
}

#[test]
fn it_keeps_as_much_as_the_manager_has_room_for_and_no_more_than_it_is_to_keep() {
    for (given, said, stored) in [
        (Some("64"), None, 4),
        (Some("3"), Some(64), 3),
        (Some("64"), Some(3), 3),
        (Some("1"), None, 1),
        (Some("0"), Some(64), 0),
        (Some("64"), Some(0), 0),
        (Some("many"), None, 0),
        (None, None, 0),
    ] {
        let mut service = Service::new();
        (service.given, service.said) = (given, said);
        let child = service.start();
        let mut idle = [service.connect(), service.connect()];
        service.stop(child);
        let counts = match stored {
            0 => " 0 aborted",
            1 => " 0 aborted, 2 not moved (2 no_room)",
            3 => " 0 aborted, 1 moved (1 http1), 1 not moved (1 no_room)",
            _ => " 0 aborted, 2 moved (2 http1)",
        };
        assert!(service.last_status().ends_with(counts), "{} {counts}", service.last_status());
        let case = format!("FDSTORE={given:?} and fd_store({said:?})");
        assert_eq!(service.names().len(), stored, "{case}: {:?}", service.names());
        // Two of them are the listener and the journal.
        let open = idle.iter_mut().filter_map(|client| client.is_over().ok()).filter(|over| !over).count();
        assert_eq!(open, stored.saturating_sub(2), "{case}");
    }
}

#[test]
fn request_headers_that_have_started_are_finished_in_the_next_process() {
    let mut service = Service::new();
    let child = service.start();
    let mut fresh = service.connect();
    let mut used = service.connect();
    for client in [&mut fresh, &mut used] {
        client.send("GET /2 HTTP/1.1\r\nHo").unwrap();
        eventually("it is read", || client.is_read());
    }
    service.stop(child);
    let _child = service.start();
    for client in [&mut fresh, &mut used] {
        client.send("st: test\r\n\r\n").unwrap();
        assert_eq!(client.answer().unwrap().text(), "2");
    }
}

#[test]
fn an_http2_client_that_acknowledges_nothing_is_asked_to_go_and_is_not_stored() {
    let mut service = Service::new();
    let child = service.start();
    let mut stream = std::net::TcpStream::connect(&service.address).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = |wanted: u8| {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            stream.read_exact(&mut vec![0; length]).unwrap();
            if head[3] == wanted {
                return;
            }
        }
    };
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    frame(SETTINGS);
    child.signal(Signal::TERM);
    frame(GOAWAY);
    drop(stream);
    child.finish();
    service.look();
    assert_eq!(service.names(), ["aa.l/http"]);
    assert!(service.last_status().ends_with(" 1 not moved (1 no_acknowledgement)"), "{}", service.last_status());
}

#[test]
fn a_stop_by_hand_stores_no_connection() {
    let mut service = Service::new();
    let child = service.start();
    let mut client = service.connect();
    child.signal(Signal::INT);
    assert!(client.rest().unwrap().is_empty(), "closed in order");
    child.finish();
    service.look();
    assert_eq!(service.names(), ["aa.l/http"]);
}

#[test]
fn a_manager_that_does_not_answer_is_not_waited_for_longer_than_the_drain_may_take() {
    let mut service = Service::new();
    service.drain_ms = 1000;
    let child = service.start();
    let mut wires: Vec<_> = (0..4).map(|_| service.connect()).collect();
    service.manager.turn_deaf();
    child.signal(Signal::TERM);
    child.finish();
    service.manager.listen_again();
    service.manager.wait("what waited for it in the queue", |manager| !manager.values("BARRIER").is_empty());
    service.look();
    let _child = service.start();
    let answered = wires.iter_mut().filter_map(|client| client.get("/1").ok()).filter(|answer| answer.text() == "1");
    let stored = service.names().iter().filter(|name| **name == "aa.c").count() - 1;
    assert_eq!(answered.count(), stored, "what was in its queue is not lost, the others were closed");
    assert!(stored >= 1);
}
