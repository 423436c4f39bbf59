//! What the client sees of a handoff: nothing.

use std::collections::BTreeSet;

use futures_util::SinkExt;
use tokio::task::yield_now;
use tokio_tungstenite::tungstenite::Message;

use super::{
    apps::{self, Order},
    client::{Raw, frame, next, next_text, text, websocket},
    line::Line,
};
use crate::idle_connection::Protocol;

/// Waits until what can move has moved.
pub(super) async fn settle(line: &Line) {
    while line.open(line.last()) == 0 {
        yield_now().await;
    }
}

/// Lets all that can be read be read.
pub(super) async fn yield_often() {
    for _ in 0..200 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_websocket_goes_from_process_to_process() {
    for order in [Order::RequestedFirst, Order::RequestedLast] {
        let line = Line::new(move |generation| apps::echo(generation, order));
        let mut socket = websocket(&line, "/echo").await;
        for number in 1..=50 {
            socket.send(Message::Ping(vec![7].into())).await.unwrap();
            socket.send(format!("message {number}").into()).await.unwrap();
            let text = next_text(&mut socket).await;
            assert_eq!(text, format!("{} {number} message {number}", line.last()));
            line.hand_over();
            settle(&line).await;
        }
        assert_eq!(line.moved().len(), 50);
        socket.close(None).await.unwrap();
        assert!(matches!(next(&mut socket).await, Some(Message::Close(_))));
        assert_eq!(next(&mut socket).await, None);
    }
}

#[tokio::test]
async fn a_stream_of_events_goes_on_in_each_process_without_a_gap() {
    let line = Line::new(|generation| apps::events(generation, u64::MAX));
    let mut client = Raw::ask(&line, "GET /events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n").await;
    let headers = client.headers().await;
    assert!(headers.contains(&"transfer-encoding: chunked".to_owned()), "{headers:?}");
    let mut generations = BTreeSet::new();
    for number in 1..=200 {
        let event = client.chunk().await;
        let (id, from) = event.trim_end().split_once('\n').unwrap();
        assert_eq!(id, format!("id: {number}"), "{event}");
        generations.insert(from.to_owned());
        if number % 4 == 0 {
            line.hand_over();
        }
    }
    assert!(generations.len() > 10, "{generations:?}");
}

/// tungstenite reads up to 128 KiB ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_400_000_messages_is_lost_wherever_requested_stands() {
    const MESSAGES: u64 = 400_000;
    for order in [Order::RequestedFirst, Order::RequestedLast] {
        let line = Line::new(move |generation| apps::count(generation, order));
        let mut client = Raw::upgrade(&line, "/count", b"").await;
        let some = text("m").repeat(1000);
        for number in 0..MESSAGES / 1000 {
            client.write(&some).await;
            if number % 40 == 20 {
                line.hand_over();
            }
        }
        client.write(&text("how many?")).await;
        assert_eq!(client.text_frame().await, MESSAGES.to_string(), "{order:?}");
        assert!(line.moved().len() >= 3, "{order:?}: {} moves", line.moved().len());
    }
}

#[tokio::test]
async fn a_message_in_fragments_is_answered_by_the_process_that_has_its_beginning() {
    let line = Line::new(|generation| apps::echo(generation, Order::RequestedFirst));
    let mut client = Raw::upgrade(&line, "/echo", b"").await;
    let message = [
        frame(0x01, b"one "),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x8a, b"pong"),
        frame(0x00, b"two "),
        frame(0x89, b""),
        frame(0x80, b"three"),
    ]
    .concat();
    let (mut number, mut pings) = (0, 0);
    for cut in 1..message.len() {
        let generation = line.last();
        client.write(&message[..cut]).await;
        yield_often().await;
        line.hand_over();
        yield_often().await;
        assert_eq!(line.open(generation), 1, "it has moved with a message open, after {cut} bytes");
        client.write(&message[cut..]).await;
        number += 1;
        loop {
            match client.frame().await {
                (0x8a, _) => pings += 1,
                (_, payload) => {
                    let expected = format!("{generation} {number} one two three");
                    assert_eq!(String::from_utf8(payload).unwrap(), expected);
                    break;
                }
            }
        }
        settle(&line).await;
    }
    assert_eq!(pings, 2 * number);
}

#[tokio::test]
async fn a_frame_of_16_mb_ends_where_it_starts() {
    let line = Line::new(|generation| apps::echo(generation, Order::RequestedLast));
    let mut client = Raw::upgrade(&line, "/echo", b"").await;
    let message = frame(0x82, &vec![7; 16 << 20]);
    let (one, two) = message.split_at(9 << 20);
    client.write(one).await;
    line.hand_over();
    yield_often().await;
    assert_eq!((line.open(0), line.open(1)), (1, 0));
    // And the next one behind it, which is for the next process.
    client.write(&[two, &text("next")].concat()).await;
    assert_eq!(client.text_frame().await, format!("0 1 {} bytes", 16 << 20));
    assert_eq!(client.text_frame().await, "1 2 next");
}

#[tokio::test]
async fn what_a_client_sends_before_the_answer_is_followed_as_well() {
    let line = Line::new(|generation| apps::echo(generation, Order::RequestedFirst));
    let early = [text("early"), frame(0x01, b"half ")].concat();
    let mut client = Raw::upgrade(&line, "/echo", &early).await;
    assert_eq!(client.text_frame().await, "0 1 early");
    line.hand_over();
    yield_often().await;
    assert_eq!((line.open(0), line.open(1)), (1, 0), "half a message has come");
    client.write(&frame(0x80, b"whole")).await;
    assert_eq!(client.text_frame().await, "0 2 half whole");
    client.write(&text("next")).await;
    assert_eq!(client.text_frame().await, "1 3 next");
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_answer_like_any_other() {
    let line = Line::new(|generation| apps::echo(generation, Order::RequestedFirst).merge(apps::hello(generation)));
    let hello = "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";
    let refused = "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n";
    let mut client = Raw::ask(&line, &[refused, hello, refused, refused, hello].concat()).await;
    for _ in 0..5 {
        assert!(client.headers().await[0].starts_with("HTTP/1.1 200 "));
        assert_eq!(client.take_text(12).await, "hello from 0");
    }
    line.hand_over();
    settle(&line).await;
    client.write(refused.as_bytes()).await;
    assert!(client.headers().await[0].starts_with("HTTP/1.1 200 "));
    assert_eq!(client.take_text(12).await, "hello from 1");
    assert_eq!(line.moved(), [Protocol::Http1]);
}

#[tokio::test]
async fn what_is_asked_behind_a_stream_is_answered_when_that_has_ended() {
    let line = Line::new(|generation| apps::events(generation, 30).merge(apps::hello(generation)));
    let events = "GET /events HTTP/1.1\r\nhost: x\r\n\r\n";
    let hello = "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";
    // With the request, and while the stream is sent, in several processes.
    let mut client = Raw::ask(&line, &[events, hello].concat()).await;
    client.headers().await;
    for number in 1..=30 {
        assert!(client.chunk().await.starts_with(&format!("id: {number}\n")));
        if number % 10 == 5 {
            client.write(hello.as_bytes()).await;
            line.hand_over();
            settle(&line).await;
        }
    }
    assert_eq!(client.chunk().await, "");
    for _ in 0..4 {
        assert!(client.headers().await[0].starts_with("HTTP/1.1 200 "));
        assert_eq!(client.take_text(12).await, "hello from 3");
    }
    // And the connection is like any other again.
    line.hand_over();
    settle(&line).await;
    client.write(hello.as_bytes()).await;
    client.headers().await;
    assert_eq!(client.take_text(12).await, "hello from 4");
    assert!(matches!(line.moved().last(), Some(Protocol::Http1)));
}

#[tokio::test]
async fn a_client_that_hangs_up_is_seen_in_each_process() {
    let line =
        Line::new(|generation| apps::events(generation, u64::MAX).merge(apps::echo(generation, Order::RequestedLast)));
    let mut events = Raw::ask(&line, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    events.headers().await;
    let socket = websocket(&line, "/echo").await;
    for moves in 0..3 {
        if moves > 0 {
            line.hand_over();
        }
        while line.open(line.last()) < 2 {
            yield_now().await;
        }
    }
    drop((events, socket));
    while line.open(line.last()) > 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn another_protocol_leaves_by_hand() {
    let line = Line::new(apps::lines);
    let mut client = Raw::connect(&line);
    let request = "GET /lines HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: lines\r\n\r\n";
    client.write(request.as_bytes()).await;
    assert!(client.headers().await[0].starts_with("HTTP/1.1 101 "));
    for number in 1..20 {
        client.write(b"ha").await;
        yield_often().await;
        line.hand_over();
        settle(&line).await;
        client.write(b"lf\r\n").await;
        assert_eq!(client.line().await, format!("{} {number} half", line.last()));
    }
    assert_eq!(line.moved().len(), 19);
}
