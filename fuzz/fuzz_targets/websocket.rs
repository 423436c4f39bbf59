//! The frames of one side of a WebSocket.
//!
//! - However the bytes are cut, the same is known after them.
//! - tungstenite reads the same headers, so a message is open exactly where it says so.
//! - Who takes no more than is open never goes past the end of a message.

#![no_main]

use std::io::Cursor;

use axum_activation::fuzzing::{WebSocket, WebSocketState};
use axum_activation_fuzz::{Input, parts};
use libfuzzer_sys::fuzz_target;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (of_client, allows_rsv1, cuts) = (input.flag(), input.flag(), input.chunk());
    let bytes = input.0;
    let mut pieces = WebSocket::new(of_client, allows_rsv1);
    parts(bytes, cuts).iter().for_each(|part| pieces.feed(part));
    let mut whole = WebSocket::new(of_client, allows_rsv1);
    whole.feed(bytes);
    assert_eq!(pieces.state(), whole.state());
    let expected = reference(bytes, of_client, allows_rsv1);
    assert_eq!(whole.state().is_faulty, expected.is_faulty);
    if !expected.is_faulty {
        assert_eq!(whole.state().is_between_messages, expected.ends.last() == Some(&bytes.len()) || bytes.is_empty());
        assert_eq!(whole.state().has_closed, expected.has_closed);
        stops_at_each_end(bytes, WebSocket::new(of_client, allows_rsv1), &expected.ends);
    }
});

/// Whole frames, one after the other.
#[derive(Debug, Default)]
struct Reference {
    is_faulty: bool,
    has_closed: bool,
    /// Where no message is open.
    ends: Vec<usize>,
}

fn reference(bytes: &[u8], of_client: bool, allows_rsv1: bool) -> Reference {
    let mut found = Reference::default();
    let (mut at, mut is_open) = (0, false);
    while at < bytes.len() {
        let mut rest = Cursor::new(&bytes[at..]);
        let (header, length) = match FrameHeader::parse(&mut rest) {
            Ok(Some(header)) => header,
            Ok(None) => return found,
            Err(_) => {
                found.is_faulty = true;
                return found;
            }
        };
        let FrameHeader { is_final, rsv1, rsv2, rsv3, opcode, mask } = header;
        let is_control = matches!(opcode, OpCode::Control(_));
        let is_right = match opcode {
            OpCode::Data(Data::Continue) => is_open && !rsv1,
            OpCode::Data(Data::Text | Data::Binary) => !is_open && (!rsv1 || allows_rsv1),
            OpCode::Control(Control::Close | Control::Ping | Control::Pong) => is_final && length <= 125 && !rsv1,
            _ => false,
        };
        if !is_right || rsv2 || rsv3 || mask.is_some() != of_client || length >> 63 != 0 {
            found.is_faulty = true;
            return found;
        }
        found.has_closed |= opcode == OpCode::Control(Control::Close);
        is_open = if is_control { is_open } else { !is_final };
        let begins = at + rest.position() as usize;
        let Some(end) = usize::try_from(length).ok().and_then(|length| begins.checked_add(length)) else {
            return found;
        };
        if end > bytes.len() {
            return found;
        }
        at = end;
        if !is_open {
            found.ends.push(at);
        }
    }
    found
}

fn stops_at_each_end(bytes: &[u8], mut observed: WebSocket, ends: &[usize]) {
    let mut at = 0;
    for end in ends {
        observed.feed(&bytes[at..=at]);
        at += 1;
        while let WebSocketState { open_len: open @ 1.., .. } = observed.state() {
            assert!(at + open <= *end, "it goes past the end of a message");
            observed.feed(&bytes[at..at + open]);
            at += open;
        }
        assert_eq!(at, *end);
    }
}
