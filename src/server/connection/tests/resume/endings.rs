//! Handlers that do not leave, or may not.

use std::time::Duration;

use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::{
    apps::{self, Order},
    client::{Raw, frame, next, next_text, text, websocket},
    line::Line,
    moves::{settle, yield_often},
};
use crate::{
    idle_connection::Accepts,
    server::limits::{Limits, MaxAge},
};

#[tokio::test]
async fn a_state_of_the_limit_moves_and_one_byte_more_is_an_error_to_the_handler() {
    for (len, answer) in [(64 * 1024, "1 65536"), (64 * 1024 + 1, "the state is longer than 64 KiB")] {
        let line = Line::new(apps::leaves_so_much);
        let mut socket = websocket(&line, "/leave").await;
        socket.send(len.to_string().into()).await.unwrap();
        assert_eq!(next_text(&mut socket).await, "ready");
        line.hand_over();
        socket.send("how much?".into()).await.unwrap();
        assert_eq!(next_text(&mut socket).await, answer);
    }
}

#[tokio::test]
async fn a_close_handshake_goes_to_its_end_where_it_is() {
    // The client begins it, and the server's Close is on its way.
    let line = Line::new(apps::leaves_after_close);
    let mut client = Raw::upgrade(&line, "/close", b"").await;
    client.write(&text("close")).await;
    assert_eq!(client.frame().await, (0x88, vec![0x03, 0xf4]));
    line.hand_over();
    yield_often().await;
    assert_eq!(line.open(0), 1, "the client has not answered yet");
    client.write(&frame(0x88, &[0x03, 0xf4])).await;
    assert_eq!(client.rest().await, b"");
    assert!(line.moved().is_empty());
}

#[tokio::test]
async fn a_close_that_comes_in_pieces_does_not_move() {
    let line = Line::new(|generation| apps::echo(generation, Order::RequestedFirst));
    let mut client = Raw::upgrade(&line, "/echo", b"").await;
    let close = frame(0x88, &[0x03, 0xe8]);
    for byte in &close[..5] {
        client.write(&[*byte]).await;
    }
    yield_often().await;
    line.hand_over();
    yield_often().await;
    client.write(&close[5..]).await;
    assert_eq!(client.frame().await, (0x88, vec![0x03, 0xe8]));
    assert_eq!(client.rest().await, b"");
    assert!(line.moved().is_empty());
}

#[tokio::test]
async fn where_nothing_takes_it_a_handler_is_asked_to_close() {
    // The service stops; the next process takes no such connections; or the exchange cannot move.
    for (accepts, hands_over) in [(true, false), (false, true)] {
        let line = Line::new_with(Accepts { resumable: accepts, ..Accepts::default() }, |generation| {
            apps::closes(generation).merge(apps::events(generation, u64::MAX))
        });
        let mut socket = websocket(&line, "/closes").await;
        let mut events = Raw::ask(&line, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
        events.headers().await;
        assert!(events.chunk().await.starts_with("id: 1\n"));
        if hands_over {
            line.hand_over();
        } else {
            line.stop();
        }
        let Some(Message::Close(Some(close))) = next(&mut socket).await else { panic!("no Close") };
        assert_eq!(close.code, CloseCode::Restart);
        assert_eq!(next(&mut socket).await, None);
        // The stream has an end.
        while !events.chunk().await.is_empty() {}
        assert!(line.moved().iter().all(|moved| matches!(moved, crate::idle_connection::Protocol::Http1)));
    }
}

#[tokio::test]
async fn a_stream_that_cannot_move_goes_on_to_its_end() {
    for accepts in [true, false] {
        let accepts = Accepts { resumable: accepts, ..Accepts::default() };
        let line = Line::new_with(accepts, |generation| apps::download(generation, 100));
        let mut client = Raw::ask(&line, "GET /download HTTP/1.1\r\nhost: x\r\n\r\n").await;
        client.headers().await;
        assert!(client.chunk().await.starts_with("id: 1\n"));
        if accepts.resumable {
            line.stop();
        } else {
            line.hand_over();
        }
        for number in 2..=100 {
            assert_eq!(client.chunk().await, format!("id: {number}\ndata: from 0\n\n"));
        }
        assert_eq!(client.chunk().await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_moves_at_any_age() {
    let max_age = MaxAge { age: Duration::from_millis(20), jitter: Duration::ZERO };
    let limits = Limits { max_age: Some(max_age), ..Limits::default() };
    let line = Line::with(limits, |generation| apps::events(generation, 300));
    let mut client = Raw::ask(&line, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.headers().await;
    for number in 1..=300 {
        assert!(client.chunk().await.starts_with(&format!("id: {number}\n")));
        if number == 100 || number == 200 {
            line.hand_over();
        }
    }
    assert_eq!(client.chunk().await, "");
    assert_eq!(line.moved().len(), 2);
}

/// The runtime has one thread: a handler that is asked again and again would leave none for the client.
#[tokio::test]
async fn a_handler_that_does_not_leave_is_asked_once() {
    for (hands_over, asked) in [(true, "leave"), (false, "close")] {
        let line = Line::new(|_| apps::ignores());
        let mut socket = websocket(&line, "/ignores").await;
        socket.send("one".into()).await.unwrap();
        assert_eq!(next_text(&mut socket).await, "one");
        if hands_over {
            line.hand_over();
        } else {
            line.stop();
        }
        assert_eq!(next_text(&mut socket).await, asked);
        socket.send("two".into()).await.unwrap();
        assert_eq!(next_text(&mut socket).await, "two");
        assert!(line.moved().is_empty());
    }
}

#[tokio::test]
async fn a_socket_that_is_kept_elsewhere_cannot_be_left() {
    let line = Line::new(apps::keeps_a_half);
    let mut client = Raw::connect(&line);
    client.write(b"GET /keep HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
    client.headers().await;
    line.hand_over();
    assert_eq!(
        client.rest().await,
        b"cannot leave: a part of the socket is kept elsewhere: give all parts to leave_after"
    );
    assert!(line.moved().is_empty());
}

#[tokio::test]
async fn an_exchange_that_comes_back_goes_on_where_it_was() {
    let line = Line::new(|generation| apps::echo(generation, Order::RequestedLast).merge(apps::events(generation, 50)));
    let mut socket = websocket(&line, "/echo").await;
    let mut events = Raw::ask(&line, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    events.headers().await;
    socket.send("one".into()).await.unwrap();
    assert_eq!(next_text(&mut socket).await, "0 1 one");
    line.hand_over_and_back();
    socket.send("two".into()).await.unwrap();
    assert_eq!(next_text(&mut socket).await, "0 2 two");
    for number in 1..=50 {
        assert_eq!(events.chunk().await, format!("id: {number}\ndata: from 0\n\n"));
    }
    assert_eq!(events.chunk().await, "");
    assert_eq!(line.moved().len(), 2);
}

#[tokio::test]
async fn what_the_next_process_refuses_is_closed_and_does_not_go_round() {
    let line = Line::new(|_| apps::plain_echo().merge(apps::events(0, u64::MAX)));
    let mut socket = websocket(&line, "/echo").await;
    let mut events = Raw::ask(&line, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    events.headers().await;
    assert!(events.chunk().await.starts_with("id: 1\n"));
    socket.send("one".into()).await.unwrap();
    assert_eq!(next_text(&mut socket).await, "1 one");
    line.refuse();
    line.hand_over();
    let Some(Message::Close(Some(close))) = next(&mut socket).await else { panic!("no Close") };
    assert_eq!(close.code, CloseCode::Restart);
    while !events.chunk().await.is_empty() {}
    assert_eq!(line.moved().len(), 2);
}

#[tokio::test]
async fn frames_that_are_not_allowed_do_not_move() {
    let line = Line::new(|generation| apps::echo(generation, Order::RequestedFirst));
    // A reserved bit without an extension; tungstenite ends the connection for that.
    let mut client = Raw::upgrade(&line, "/echo", b"").await;
    client.write(&frame(0xc1, b"compressed")).await;
    yield_often().await;
    line.hand_over();
    client.rest().await;
    assert!(line.moved().is_empty());
    // Another client is not touched by that.
    let mut client = Raw::upgrade(&line, "/echo", b"").await;
    line.hand_over();
    settle(&line).await;
    client.write(&text("hello")).await;
    assert_eq!(client.text_frame().await, "2 1 hello");
}

#[tokio::test]
async fn a_request_that_comes_during_the_handoff_moves_as_well() {
    let line = Line::new(|generation| apps::events(generation, 20).merge(apps::echo(generation, Order::RequestedLast)));
    let mut events = Raw::connect(&line);
    let mut echo = Raw::connect(&line);
    // Half of the headers have come: the connection moves, and the rest is read there.
    let (one, two) = ("GET /events HTTP/1.1\r\nho", "st: x\r\n\r\n");
    let upgrade = super::client::websocket_request("/echo");
    events.write(one.as_bytes()).await;
    echo.write(&upgrade.as_bytes()[..30]).await;
    yield_often().await;
    line.hand_over();
    events.write(two.as_bytes()).await;
    echo.write(&upgrade.as_bytes()[30..]).await;
    line.hand_over();
    events.headers().await;
    echo.headers().await;
    for number in 1..=20 {
        assert!(events.chunk().await.starts_with(&format!("id: {number}\n")));
        line.hand_over();
    }
    assert_eq!(events.chunk().await, "");
    settle(&line).await;
    echo.write(&text("hello")).await;
    assert!(echo.text_frame().await.ends_with(" 1 hello"));
}
