//! HTTP/2 as the client of a benchmark speaks it: one stream at a time, and no table of header fields.

use std::{io, mem};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No setting, and as large a window for the connection as there is.
const OPENING: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0";
/// Of a frame's head (RFC 9113, section 4.1).
const HEAD: usize = 9;
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:method: GET` and `:scheme: http`, as RFC 7541 numbers them.
const GET_HTTP: [u8; 2] = [0x82, 0x86];

/// One connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    /// The stream of the last request.
    stream: u32,
    received: Vec<u8>,
    body: Vec<u8>,
    /// What is to be sent for what has come.
    replies: Vec<u8>,
    is_going_away: bool,
}

impl Http2 {
    /// A connection on which nothing was sent, and what is sent first.
    pub(crate) fn new() -> (Self, Vec<u8>) {
        let connection = Self {
            stream: u32::MAX,
            received: Vec::new(),
            body: Vec::new(),
            replies: Vec::new(),
            is_going_away: false,
        };
        (connection, [PREFACE, OPENING].concat())
    }

    /// The next request.
    pub(crate) fn request(&mut self, path: &str) -> Vec<u8> {
        self.stream = self.stream.wrapping_add(2);
        let mut block = GET_HTTP.to_vec();
        // `:path` and `:authority`, never indexed.
        for (name, value) in [(4, path), (1, "localhost")] {
            block.extend([0x10 | name, u8::try_from(value.len()).expect("shorter than 127")]);
            block.extend(value.as_bytes());
        }
        frame(1, END_STREAM | END_HEADERS, self.stream, &block)
    }

    /// Takes what has come: the body of the answer, when it is whole.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.received.extend_from_slice(bytes);
        let mut answer = None;
        while let Some(length) = self.whole_frame() {
            let frame: Vec<_> = self.received.drain(..length).collect();
            answer = self.take_frame(&frame)?.or(answer);
        }
        Ok(answer)
    }

    pub(crate) fn replies(&mut self) -> Vec<u8> {
        mem::take(&mut self.replies)
    }

    /// Whether the server has asked it to open no more streams.
    pub(crate) fn is_going_away(&self) -> bool {
        self.is_going_away
    }

    fn whole_frame(&self) -> Option<usize> {
        let length = self.received.get(..3)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)) + HEAD;
        (self.received.len() >= length).then_some(length)
    }

    fn take_frame(&mut self, whole: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let (head, payload) = whole.split_at(HEAD);
        let (kind, flags) = (head[3], head[4]);
        match kind {
            SETTINGS if flags & ACK == 0 => self.replies.extend(frame(SETTINGS, ACK, 0, &[])),
            PING if flags & ACK == 0 => self.replies.extend(frame(PING, ACK, 0, payload)),
            GOAWAY => self.is_going_away = true,
            DATA if head[5..] == self.stream.to_be_bytes() => {
                self.body.extend_from_slice(payload);
                if flags & END_STREAM != 0 {
                    return Ok(Some(mem::take(&mut self.body)));
                }
            }
            DATA => return Err(io::Error::other("an answer on another stream")),
            // HEADERS, WINDOW_UPDATE, acknowledgements.
            1 | 4 | 6 | 8 => {}
            _ => return Err(io::Error::other(format!("unexpected frame {head:?}"))),
        }
        Ok(None)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
