//! Generated clients and generated moves: every byte is that which the same client gets on a connection that never moves.
//!
//! `MOVES=20000 cargo test --lib connection::tests::resume` tries as many cases.

use std::cell::Cell;

use axum::Router;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tokio::{runtime::Builder, task::yield_now};

use super::{
    super::config,
    apps,
    client::{Raw, frame, websocket_request},
    line::Line,
};

/// What a client does.
#[derive(Clone, Debug)]
enum Step {
    /// Writes so many of its bytes.
    Write(usize),
    HandOver,
    Yield(u8),
}

/// A message: its fragments, and what stands before each.
#[derive(Clone, Debug)]
struct Message {
    opcode: u8,
    fragments: Vec<(usize, Option<u8>)>,
}

impl Message {
    fn bytes(&self, number: usize) -> Vec<u8> {
        let letter = b"abcdefghijklmnopqrstuvwxyz"[number % 26];
        let mut bytes = Vec::new();
        for (at, (len, ping)) in self.fragments.iter().enumerate() {
            bytes.extend(ping.map(|len| frame(0x89, &vec![b'p'; usize::from(len)])).unwrap_or_default());
            let fin = if at + 1 == self.fragments.len() { 0x80 } else { 0 };
            let opcode = if at == 0 { self.opcode } else { 0 };
            bytes.extend(frame(fin | opcode, &vec![letter; *len]));
        }
        bytes
    }
}

fn message() -> impl Strategy<Value = Message> {
    let len = prop_oneof![4 => 0..30_usize, 2 => 100..140_usize, 1 => 60_000..70_000_usize];
    let ping = proptest::option::weighted(0.2, 0..126_u8);
    (1..3_u8, vec((len, ping), 1..5)).prop_map(|(opcode, fragments)| Message { opcode, fragments })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![4 => 1..20_usize, 3 => 1..300_usize, 2 => 1..70_000_usize];
    let step = prop_oneof![
        4 => len.prop_map(Step::Write),
        3 => Just(Step::HandOver),
        3 => (1..20_u8).prop_map(Step::Yield),
    ];
    vec(step, 0..40)
}

/// Everything that a client gets which sends `bytes`, and how many moves there were.
async fn play(bytes: &[u8], steps: &[Step], app: fn(usize) -> Router) -> (Vec<u8>, usize) {
    let line = Line::new(app);
    let mut client = Raw::connect(&line);
    let mut left = bytes;
    for step in steps {
        match *step {
            Step::Write(len) => {
                let (now, later) = left.split_at(len.min(left.len()));
                client.write_and_read(now).await;
                left = later;
            }
            Step::HandOver => line.hand_over(),
            Step::Yield(times) => {
                for _ in 0..times {
                    yield_now().await;
                }
            }
        }
    }
    client.write_and_read(left).await;
    let mut got = client.rest().await;
    // The moment of an answer.
    let is_date = |bytes: &[u8]| bytes.starts_with(b"\r\ndate: ");
    while let Some(at) = got.windows(37).position(is_date) {
        got.drain(at..at + 37);
    }
    (got, line.moved().len())
}

/// Plays it with the moves and without them, and says how many there were.
fn both(bytes: &[u8], steps: &[Step], app: fn(usize) -> Router) -> ([Vec<u8>; 2], usize) {
    let run = |steps: &[Step]| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(bytes, steps, app))
    };
    let without: Vec<_> = steps.iter().filter(|step| !matches!(step, Step::HandOver)).cloned().collect();
    let ((moving, moves), (staying, _)) = (run(steps), run(&without));
    ([moving, staying], moves)
}

/// The answers to pings, and all other frames. tungstenite sends the former when there is room: their place among the others, and which of
/// several pings is answered, is a matter of time (RFC 6455, section 5.5.3).
fn frames(mut bytes: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let (mut pongs, mut others) = (Vec::new(), Vec::new());
    while bytes.len() >= 2 {
        let (head, len) = match bytes[1] {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 => (10, usize::try_from(u64::from_be_bytes(bytes[2..10].try_into().unwrap())).unwrap()),
            len => (2, usize::from(len)),
        };
        let (frame, rest) = bytes.split_at(head + len);
        if frame[0] == 0x8a {
            pongs.push(len);
        } else {
            others.extend(frame);
        }
        bytes = rest;
    }
    (pongs, others)
}

/// Whether `some` are in `all`, in order.
fn is_part(some: &[usize], all: &[usize]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.any(|other| one == other))
}

#[test]
fn a_websocket_gets_the_same_bytes_wherever_it_moves() {
    let counted = Cell::new(0);
    let result = TestRunner::new(config(100)).run(&(vec(message(), 0..12), steps()), |(messages, steps)| {
        let pings = messages.iter().flat_map(|message| &message.fragments).filter_map(|(_, ping)| *ping);
        let pings: Vec<_> = pings.map(usize::from).collect();
        let messages = messages.iter().enumerate().flat_map(|(number, message)| message.bytes(number));
        let request = websocket_request("/echo").into_bytes();
        let bytes: Vec<u8> = request.into_iter().chain(messages).chain(frame(0x88, &[0x03, 0xe8])).collect();
        let (outcomes, moves) = both(&bytes, &steps, |_| apps::plain_echo());
        counted.set(counted.get() + moves);
        let [moving, staying] = outcomes.map(|bytes| {
            let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            (bytes[..end].to_vec(), frames(&bytes[end..]))
        });
        prop_assert_eq!(moving.0, staying.0);
        prop_assert!(moving.1.1 == staying.1.1, "{} bytes and {} bytes", moving.1.1.len(), staying.1.1.len());
        prop_assert!(is_part(&moving.1.0, &pings) && is_part(&staying.1.0, &pings));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(counted.get() > 100, "only {} moves", counted.get());
}

#[test]
fn a_stream_gets_the_same_bytes_wherever_it_moves() {
    let counted = Cell::new(0);
    let requests = vec(prop_oneof![2 => (1..60_u64).prop_map(Some), 1 => Just(None)], 1..5);
    let result = TestRunner::new(config(100)).run(&(requests, steps()), |(requests, steps)| {
        let last = requests.len() - 1;
        let bytes: Vec<u8> = requests
            .iter()
            .enumerate()
            .flat_map(|(number, events)| {
                let path = events.map_or("/hello".to_owned(), |events| format!("/quick/{events}"));
                let close = if number == last { "connection: close\r\n" } else { "" };
                format!("GET {path} HTTP/1.1\r\nhost: x\r\n{close}\r\n").into_bytes()
            })
            .collect();
        let app = |_| apps::quick_events().merge(apps::hello(0));
        let ([moving, staying], moves) = both(&bytes, &steps, app);
        counted.set(counted.get() + moves);
        prop_assert!(moving == staying, "{} bytes and {} bytes", moving.len(), staying.len());
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(counted.get() > 100, "only {} moves", counted.get());
}
