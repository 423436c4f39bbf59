//! The library of one process.

use std::collections::BTreeMap;

use super::{
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FIRST_WINDOW, Frame, HEADERS, PING, PREFACE, PRIORITY,
        RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, next, settings, window_update,
    },
    table::Table,
};

const LONGEST_FRAME: usize = 16_384;

/// It grows its window at once by so much, as h2 does.
const WORTH_AN_UPDATE: i64 = 32_767;

/// A library that answers when it is asked to.
#[derive(Debug)]
pub struct Library {
    /// What it has written.
    pub out: Vec<u8>,
    inbox: Vec<u8>,
    has_preface: bool,
    decoder: Table,
    encoder: Table,
    block: Option<(u32, bool, Vec<u8>)>,
    streams: BTreeMap<u32, Stream>,
    highest: u32,
    pub send_window: i64,
    pub receive_window: i64,
    released: i64,
    wanted_window: i64,
    stream_window: i64,
    is_acknowledged: bool,
}

#[derive(Debug, Default)]
struct Stream {
    text: Vec<u8>,
    has_ended: bool,
    answers: bool,
    sent_headers: bool,
    sent: usize,
    send_window: i64,
}

impl Library {
    /// A new instance, which has written its SETTINGS.
    pub fn new(wanted_window: u32) -> Self {
        Self {
            out: settings(&[(3, 200), (4, 65_535), (5, 16_384), (6, 16_384)]),
            inbox: Vec::new(),
            has_preface: false,
            decoder: Table::new(),
            encoder: Table::new(),
            block: None,
            streams: BTreeMap::new(),
            highest: 0,
            send_window: FIRST_WINDOW,
            receive_window: FIRST_WINDOW,
            released: 0,
            wanted_window: i64::from(wanted_window),
            stream_window: FIRST_WINDOW,
            is_acknowledged: false,
        }
    }

    /// A read has brought these bytes.
    pub fn read(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        if !self.has_preface && self.inbox.len() >= PREFACE.len() {
            assert_eq!(self.inbox.drain(..PREFACE.len()).collect::<Vec<_>>(), PREFACE);
            self.has_preface = true;
        }
        while let Some(frame) = self.has_preface.then(|| next(&mut self.inbox)).flatten() {
            self.frame(&frame);
        }
    }

    /// A read has found nothing.
    pub fn idle(&mut self) {
        let missing = self.wanted_window - self.receive_window - self.released;
        if self.is_acknowledged && missing >= WORTH_AN_UPDATE || self.released >= WORTH_AN_UPDATE {
            let increment = missing.max(0) + self.released;
            self.released = 0;
            self.receive_window += increment;
            self.out.extend(window_update(0, u32::try_from(increment).expect("it fits")));
        }
        self.respond();
    }

    /// Answers a request that has ended.
    pub fn answer(&mut self, number: u8) {
        let mut waiting: Vec<_> = self.streams.values_mut().filter(|stream| !stream.answers).collect();
        let at = usize::from(number) % waiting.len().max(1);
        if let Some(stream) = waiting.get_mut(at) {
            stream.answers = true;
        }
    }

    pub fn answer_all(&mut self) {
        self.streams.values_mut().for_each(|stream| stream.answers = true);
    }

    /// Resets a stream.
    pub fn reset(&mut self, number: u8) {
        let at = usize::from(number) % self.streams.len().max(1);
        if let Some(id) = self.streams.keys().nth(at).copied() {
            self.streams.remove(&id);
            self.out.extend(frame(RST_STREAM, 0, id, &2_u32.to_be_bytes()));
        }
    }

    pub fn ping(&mut self) {
        self.out.extend(frame(PING, ACK, 0, &[0; 8]));
    }

    fn respond(&mut self) {
        let mut done = Vec::new();
        for (id, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.answers && stream.has_ended) {
            if !stream.sent_headers {
                stream.sent_headers = true;
                let end = stream.text.iter().position(|byte| *byte == b'|').expect("there is a field");
                let mut block = self.encoder.encode_sizes();
                block.extend(match self.encoder.len() {
                    0 => self.encoder.encode(&stream.text[..end], true),
                    _ if self.encoder.encode_entry(0).1 == stream.text[..end] => self.encoder.encode_entry(0).0,
                    _ => self.encoder.encode(&stream.text[..end], true),
                });
                stream.sent = end + 1;
                self.out.extend(frame(HEADERS, END_HEADERS, *id, &block));
            }
            loop {
                let left = stream.text.len() - stream.sent;
                let room = usize::try_from(self.send_window.min(stream.send_window)).unwrap_or(0);
                let here = left.min(room).min(LONGEST_FRAME);
                if here == 0 && left > 0 {
                    break;
                }
                let ends = here == left;
                let body = &stream.text[stream.sent..stream.sent + here];
                self.out.extend(frame(DATA, if ends { END_STREAM } else { 0 }, *id, body));
                stream.sent += here;
                let sent = i64::try_from(here).expect("it fits");
                self.send_window -= sent;
                stream.send_window -= sent;
                if ends {
                    done.push(*id);
                    break;
                }
            }
        }
        done.iter().for_each(|id| _ = self.streams.remove(id));
    }

    fn frame(&mut self, frame: &Frame) {
        assert!(self.block.is_none() || frame.kind == CONTINUATION, "PROTOCOL_ERROR: a header block is interrupted");
        match frame.kind {
            HEADERS => {
                self.block = Some((frame.stream, frame.has(END_STREAM), frame.content().to_vec()));
                self.end_block(frame);
            }
            CONTINUATION => {
                let (stream, _, block) = self.block.as_mut().expect("PROTOCOL_ERROR: no header block is open");
                assert_eq!(*stream, frame.stream);
                block.extend_from_slice(&frame.payload);
                self.end_block(frame);
            }
            DATA => self.data(frame),
            RST_STREAM => {
                assert!(frame.stream <= self.highest, "PROTOCOL_ERROR: {} is idle", frame.stream);
                self.streams.remove(&frame.stream);
            }
            SETTINGS if frame.has(ACK) => {
                assert!(!std::mem::replace(&mut self.is_acknowledged, true), "an acknowledgement of no SETTINGS");
            }
            SETTINGS => self.settings(&frame.settings()),
            PING => {
                assert!(!frame.has(ACK), "an answer to no ping");
                self.out.extend(super::frames::frame(PING, ACK, 0, &frame.payload));
            }
            WINDOW_UPDATE => self.window_update(frame),
            PRIORITY | 0xf0 => {}
            kind => panic!("a frame of the type {kind}"),
        }
    }

    fn end_block(&mut self, frame: &Frame) {
        if !frame.has(END_HEADERS) {
            return;
        }
        let (id, has_ended, block) = self.block.take().expect("it is open");
        let text = self.decoder.decode(&block);
        assert!(id > self.highest, "STREAM_CLOSED: {id} was opened before");
        self.highest = id;
        let send_window = self.stream_window;
        self.streams.insert(id, Stream { text, has_ended, send_window, ..Stream::default() });
    }

    fn data(&mut self, frame: &Frame) {
        assert!(frame.stream <= self.highest, "PROTOCOL_ERROR: {} is idle", frame.stream);
        self.receive_window -= frame.length();
        assert!(self.receive_window >= 0, "FLOW_CONTROL_ERROR: more DATA than is allowed");
        self.released += frame.length();
        if let Some(stream) = self.streams.get_mut(&frame.stream) {
            assert!(!stream.has_ended, "STREAM_CLOSED: DATA after the end");
            stream.text.extend_from_slice(frame.content());
            stream.has_ended = frame.has(END_STREAM);
        }
    }

    fn settings(&mut self, values: &[(u16, u32)]) {
        for (id, value) in values {
            match id {
                1 => self.encoder.allow(usize::try_from(*value).expect("it fits")),
                4 => self.stream_window = i64::from(*value),
                _ => {}
            }
        }
        self.out.extend(frame(SETTINGS, ACK, 0, &[]));
    }

    fn window_update(&mut self, frame: &Frame) {
        let increment = i64::from(frame.number());
        assert!(increment > 0, "PROTOCOL_ERROR: an increment of 0");
        assert!(frame.stream <= self.highest, "PROTOCOL_ERROR: {} is idle", frame.stream);
        match frame.stream {
            0 => self.send_window += increment,
            id => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.send_window += increment;
                }
            }
        }
    }
}
