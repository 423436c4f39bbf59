//! The client. It stays one and the same, however often the connection moves.

use std::collections::{BTreeMap, VecDeque};

use super::{
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FIRST_WINDOW, GOAWAY, HEADERS, PADDED, PING, PREFACE,
        PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, next, settings, window_update,
    },
    table::Table,
};
use crate::Input;

/// The body of one stream.
const MOST_BODY: usize = 60_000;

const MOST_WINDOW: i64 = (1 << 31) - 1;

/// A client that waits for no answer.
#[derive(Debug)]
pub struct Client {
    /// What it has written.
    pub out: Vec<u8>,
    inbox: Vec<u8>,
    /// It goes on to use its table after it has acknowledged that there is none, as Go did before 1.20.
    disobeys: bool,
    encoder: Table,
    decoder: Table,
    next: u32,
    streams: BTreeMap<u32, Stream>,
    pub send_window: i64,
    pub receive_window: i64,
    stream_window: i64,
    /// SETTINGS of the server that it has not acknowledged, and its own.
    unacknowledged: VecDeque<Vec<(u16, u32)>>,
    awaited: u32,
    pings: VecDeque<u8>,
    goaway: bool,
}

#[derive(Debug)]
struct Stream {
    /// What was sent: the response must be the same.
    text: Vec<u8>,
    has_ended: bool,
    is_reset: bool,
    got: Vec<u8>,
    got_headers: bool,
    got_end: bool,
    receive_window: i64,
}

impl Client {
    /// A client with these windows, that has sent its preface.
    pub fn new(disobeys: bool, stream_window: u32, connection_window: u32) -> Self {
        let mut client = Self {
            out: PREFACE.to_vec(),
            inbox: Vec::new(),
            disobeys,
            encoder: Table::new(),
            decoder: Table::new(),
            next: 1,
            streams: BTreeMap::new(),
            send_window: FIRST_WINDOW,
            receive_window: FIRST_WINDOW,
            stream_window: i64::from(stream_window),
            unacknowledged: VecDeque::new(),
            awaited: 1,
            pings: VecDeque::new(),
            goaway: false,
        };
        client.out.extend(settings(&[(2, 0), (4, stream_window)]));
        client.grant(connection_window);
        client
    }

    /// More DATA may come on the connection.
    pub fn grant(&mut self, increment: u32) {
        if increment > 0 && self.receive_window + i64::from(increment) <= MOST_WINDOW {
            self.receive_window += i64::from(increment);
            self.out.extend(window_update(0, increment));
        }
    }

    /// More DATA may come on each stream.
    pub fn grant_streams(&mut self, increment: u32) {
        for (id, stream) in &mut self.streams {
            if !stream.is_reset && !stream.got_end && stream.receive_window + i64::from(increment) <= MOST_WINDOW {
                stream.receive_window += i64::from(increment);
                self.out.extend(window_update(*id, increment));
            }
        }
    }

    /// A request: its header block has fields of every form, in one to three frames.
    pub fn open(&mut self, input: &mut Input<'_>) {
        if self.goaway {
            return;
        }
        let (id, flags) = (self.next, input.byte());
        self.next += 2 + 2 * u32::from(input.byte() % 4 / 3);
        let (block, text) = self.block(input);
        let has_ended = flags & 1 != 0;
        let mut rest = block.as_slice();
        for number in 0..=flags >> 6 & 1 {
            let (kind, ends) = (if number == 0 { HEADERS } else { CONTINUATION }, flags & 0x40 == 0 || number == 1);
            let (part, after) = if ends { (rest, &[][..]) } else { rest.split_at(input.up_to(rest.len())) };
            rest = after;
            let padding = if kind == HEADERS && flags & 0x20 != 0 { usize::from(flags & 0x1e) } else { 0 };
            let mut flag = if ends { END_HEADERS } else { 0 };
            flag |= if kind == HEADERS && has_ended { END_STREAM } else { 0 };
            self.out.extend(padded(kind, flag, id, part, padding));
        }
        let (got, receive_window) = (Vec::new(), self.stream_window);
        let stream =
            Stream { text, has_ended, is_reset: false, got, got_headers: false, got_end: false, receive_window };
        self.streams.insert(id, stream);
    }

    fn block(&mut self, input: &mut Input<'_>) -> (Vec<u8>, Vec<u8>) {
        let (mut block, mut text) = (self.encoder.encode_sizes(), Vec::new());
        for _ in 0..=input.byte() % 4 {
            let form = input.byte();
            let (bytes, value) = match form % 4 {
                0 | 1 if self.encoder.len() > 0 => {
                    self.encoder.encode_entry(usize::from(form / 4) % self.encoder.len().min(60))
                }
                kind => {
                    let value = vec![form | 1; usize::from(form) * if form == 0xff { 8 } else { 1 } / 4];
                    (self.encoder.encode(&value, kind < 3), value)
                }
            };
            block.extend(bytes);
            text.extend(value);
            text.push(b'|');
        }
        (block, text)
    }

    /// A stream that was opened, by a number.
    fn stream(&mut self, number: u8) -> Option<(u32, &mut Stream)> {
        let open =
            self.streams.iter_mut().filter(|(_, stream)| !stream.is_reset && !(stream.has_ended && stream.got_end));
        let mut open: Vec<_> = open.map(|(id, stream)| (*id, stream)).collect();
        let at = usize::from(number) % open.len().max(1);
        (at < open.len()).then(|| open.swap_remove(at))
    }

    /// DATA on an open stream, as much as the window allows.
    pub fn data(&mut self, input: &mut Input<'_>) {
        let (number, flags, length) = (input.byte(), input.byte(), input.up_to(16_000));
        let most = usize::try_from(self.send_window).unwrap_or(0);
        let Some((id, stream)) = self.stream(number).filter(|(_, stream)| !stream.has_ended) else { return };
        let padding = if flags & 2 != 0 { usize::from(flags >> 2) } else { 0 };
        if length + padding + 1 > most || stream.text.len() + length + padding + 1 > MOST_BODY {
            return;
        }
        let body = vec![flags | 1; length];
        stream.text.extend(&body);
        stream.has_ended = flags & 1 != 0;
        let bytes = padded(DATA, if stream.has_ended { END_STREAM } else { 0 }, id, &body, padding);
        // RFC 9113, section 6.9.1: the padding counts.
        self.send_window -= i64::try_from(bytes.len() - 9).expect("it is short");
        self.out.extend(bytes);
    }

    /// The end of a request.
    pub fn end(&mut self, number: u8) {
        let Some((id, stream)) = self.stream(number).filter(|(_, stream)| !stream.has_ended) else { return };
        stream.has_ended = true;
        self.out.extend(frame(DATA, END_STREAM, id, &[]));
    }

    /// Resets a stream.
    pub fn reset(&mut self, number: u8) {
        let Some((id, stream)) = self.stream(number) else { return };
        stream.is_reset = true;
        self.out.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }

    pub fn ping(&mut self, content: u8) {
        self.pings.push_back(content);
        self.out.extend(frame(PING, 0, 0, &[content; 8]));
    }

    /// A frame that means nothing.
    pub fn priority(&mut self, stream: u8) {
        self.out.extend(frame(PRIORITY, 0, u32::from(stream) | 1, &[0, 0, 0, 0, 1]));
        self.out.extend(frame(0xf0, stream, u32::from(stream % 2), b"unknown"));
    }

    /// Another SETTINGS frame.
    pub fn set(&mut self, table_size: u32) {
        self.awaited += 1;
        self.out.extend(settings(&[(1, table_size), (6, 100_000)]));
    }

    /// Acknowledges the SETTINGS that came first.
    pub fn acknowledge(&mut self) {
        let Some(values) = self.unacknowledged.pop_front() else { return };
        for (_, size) in values.into_iter().filter(|(id, _)| *id == 1 && !self.disobeys) {
            self.encoder.allow(usize::try_from(size).expect("it fits"));
        }
        self.out.extend(frame(SETTINGS, ACK, 0, &[]));
    }

    /// The server has sent these bytes.
    pub fn read(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while let Some(frame) = next(&mut self.inbox) {
            self.frame(&frame);
        }
    }

    fn frame(&mut self, frame: &super::frames::Frame) {
        match frame.kind {
            DATA => self.response_data(frame),
            HEADERS => {
                assert!(frame.has(END_HEADERS), "the library writes no CONTINUATION");
                let text = self.decoder.decode(frame.content());
                let stream = self.response(frame.stream);
                assert!(!stream.got_headers, "two responses");
                stream.got_headers = true;
                stream.got.extend(text);
            }
            SETTINGS if frame.has(ACK) => {
                self.awaited = self.awaited.checked_sub(1).expect("an acknowledgement of no SETTINGS");
            }
            SETTINGS => self.unacknowledged.push_back(frame.settings()),
            PING if frame.has(ACK) => {
                assert_eq!(frame.payload, [self.pings.pop_front().expect("an answer to no ping"); 8])
            }
            RST_STREAM => self.response(frame.stream).is_reset = true,
            WINDOW_UPDATE if frame.stream == 0 => {
                assert!(frame.number() > 0, "PROTOCOL_ERROR: an increment of 0");
                self.send_window += i64::from(frame.number());
                assert!(self.send_window <= MOST_WINDOW, "FLOW_CONTROL_ERROR: the window is too great");
            }
            WINDOW_UPDATE => {}
            GOAWAY => self.goaway = true,
            kind => panic!("a frame of the type {kind}"),
        }
    }

    fn response(&mut self, id: u32) -> &mut Stream {
        let stream = self.streams.get_mut(&id).expect("PROTOCOL_ERROR: the stream is idle");
        assert!(!stream.got_end, "STREAM_CLOSED: a frame after the end of {id}");
        stream
    }

    fn response_data(&mut self, frame: &super::frames::Frame) {
        self.receive_window -= frame.length();
        assert!(self.receive_window >= 0, "FLOW_CONTROL_ERROR: more DATA than the client allows");
        let stream = self.response(frame.stream);
        assert!(stream.got_headers);
        stream.receive_window -= frame.length();
        assert!(stream.receive_window >= 0 || stream.is_reset, "FLOW_CONTROL_ERROR: more DATA than the stream allows");
        stream.got.extend_from_slice(&frame.payload);
        stream.got_end = frame.has(END_STREAM);
        assert!(stream.is_reset || stream.text.starts_with(&stream.got), "a response is not that of its request");
        assert!(stream.is_reset || !stream.got_end || stream.text == stream.got, "a response is cut short");
    }

    /// Ends all requests and reads everything.
    pub fn finish(&mut self) {
        let open: Vec<_> = self.streams.iter().filter(|(_, stream)| !stream.has_ended && !stream.is_reset).collect();
        for _ in 0..open.len() {
            let Some(number) =
                (0..=255).find(|number| self.stream(*number).is_some_and(|(_, stream)| !stream.has_ended))
            else {
                break;
            };
            self.end(number);
        }
        while !self.unacknowledged.is_empty() {
            self.acknowledge();
        }
    }

    /// Whether a GOAWAY came.
    pub fn was_sent_away(&self) -> bool {
        self.goaway
    }

    pub fn disobeys(&self) -> bool {
        self.disobeys
    }

    /// All has come that the client was owed.
    pub fn check(&self) {
        for (id, stream) in &self.streams {
            assert!(stream.is_reset || !stream.has_ended || stream.got_end, "the response of {id} is not complete");
        }
        assert_eq!(self.awaited, 0, "SETTINGS are not acknowledged");
        assert!(self.pings.is_empty(), "a ping is not answered");
        assert!(self.inbox.is_empty(), "a frame is not complete");
    }
}

fn padded(kind: u8, flags: u8, stream: u32, content: &[u8], padding: usize) -> Vec<u8> {
    if padding == 0 {
        return frame(kind, flags, stream, content);
    }
    let length = u8::try_from(padding).expect("it fits");
    frame(kind, flags | PADDED, stream, &[&[length], content, &vec![0; padding]].concat())
}
