//! Any bytes of an HTTP/2 client and of the library, any steps of a move.
//!
//! - However the bytes are cut, the same frames pass on each stream, in the same order, and the same is known.
//! - In the old process no frame changes on its way. Only SETTINGS of the layer are added, their acknowledgements swallowed, and streams left
//!   out that were reset as they were held.
//! - What goes out is whole frames, as long as the library writes whole frames.
//! - The memory that is held has a limit, whatever is repeated.

#![no_main]

use std::collections::BTreeMap;

use axum_activation::fuzzing::{Http2, MoveStep};
use axum_activation_fuzz::{Input, held, parts};
use libfuzzer_sys::fuzz_target;

/// 1 MiB that is held, 64 KiB each of what is ready and checked, one frame more of each, and what a vector has beyond its length.
const MOST_HELD: usize = 5 * 512 * 1024;

/// What the real library has under way is limited by its windows.
const MOST_OF_LIBRARY: usize = 64 * 1024;
const MOST_OF_CLIENT: usize = 4 * 1024 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let cuts = input.chunk();
    let whole = Run::new(&[]).play(input);
    let cut = Run::new(cuts).play(input);
    assert_eq!(whole.steps, cut.steps, "the move depends on how bytes are cut");
    // After a fault the streams that were held come behind the frame that the library has in part, which may not have ended.
    let stays = whole.steps.last().is_some_and(|(step, _)| *step == MoveStep::Stays);
    assert_same(by_stream(&whole.to_library, true), by_stream(&cut.to_library, true), stays);
    // A stream that is not left out any more gives nothing back.
    let shown = |run: &Run<'_>| {
        let streams = by_stream(&run.to_client, false);
        if stays { without_updates(streams) } else { streams }
    };
    assert_eq!(shown(&whole), shown(&cut));
    if !whole.has_moved {
        assert_eq!(without_updates(by_stream(&whole.from_library, false)), without_inserted(&whole));
    }
});

struct Run<'a> {
    cuts: &'a [u8],
    http2: Http2,
    has_moved: bool,
    asks: bool,
    has_ended: bool,
    from_client: Vec<u8>,
    from_library: Vec<u8>,
    to_library: Vec<u8>,
    to_client: Vec<u8>,
    steps: Vec<(MoveStep, bool)>,
}

impl<'a> Run<'a> {
    fn new(cuts: &'a [u8]) -> Self {
        Self {
            cuts,
            http2: Http2::accepted(),
            has_moved: false,
            asks: false,
            has_ended: false,
            from_client: Vec::new(),
            from_library: Vec::new(),
            to_library: Vec::new(),
            to_client: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn play(mut self, mut input: Input<'_>) -> Self {
        while !input.0.is_empty() {
            match input.byte() % 16 {
                0 => self.client(PREFACE),
                1 => self.client(input.chunk()),
                2 | 3 => self.client(&frame(&mut input)),
                4 => {
                    let (frame, count) = (frame(&mut input), input.byte());
                    (0..count).for_each(|_| self.client(&frame));
                }
                5..=7 => self.library(&frame(&mut input)),
                8 | 9 => {
                    self.asks = true;
                    self.http2.ask();
                }
                10 => self.http2.stop_holding(),
                11 => self.http2.hold_again(),
                12 => self.http2.stay(),
                13 => self.start(),
                14 => self.depart(),
                _ => {
                    self.has_ended = true;
                    self.http2.client_ends();
                }
            }
            self.pass_on();
            self.steps.push((self.http2.step(), self.http2.is_over()));
        }
        let Self { http2, .. } = self;
        let bytes = held(|| drop(http2));
        assert!(bytes <= MOST_HELD, "{bytes} bytes are held");
        Self { http2: Http2::accepted(), ..self }
    }

    fn client(&mut self, bytes: &[u8]) {
        if self.has_ended || !self.http2.wants_client() || self.from_client.len() + bytes.len() > MOST_OF_CLIENT {
            return;
        }
        for part in parts(bytes, self.cuts) {
            self.from_client.extend_from_slice(part);
            self.to_library.extend_from_slice(self.http2.client(part));
            if !self.cuts.is_empty() {
                self.pass_on();
            }
        }
        self.pass_on();
    }

    fn library(&mut self, bytes: &[u8]) {
        if self.from_library.len() + bytes.len() > MOST_OF_LIBRARY {
            return;
        }
        for part in parts(bytes, self.cuts) {
            self.from_library.extend_from_slice(part);
            self.to_client.extend_from_slice(self.http2.library(part));
        }
        self.pass_on();
        self.http2.library_flushes();
    }

    /// What a client and the library begin with.
    fn start(&mut self) {
        if self.from_client.is_empty() && self.from_library.is_empty() {
            self.client(PREFACE);
            self.client(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
            let values = [(3, 200_u32), (4, 65_535), (5, 16_384), (6, 16_384)];
            let values = values.iter().flat_map(|(id, value)| [&[0, *id][..], &value.to_be_bytes()].concat());
            let settings: Vec<u8> = [0, 0, 24, 4, 0, 0, 0, 0, 0].into_iter().chain(values).collect();
            self.library(&settings);
            self.library(&[0, 0, 0, 4, 1, 0, 0, 0, 0]);
            self.client(&[0, 0, 0, 4, 1, 0, 0, 0, 0]);
        }
    }

    fn pass_on(&mut self) {
        self.to_client.extend(self.http2.take_out());
        while let Some(bytes) = self.http2.take(8192) {
            self.to_library.extend_from_slice(&bytes);
        }
        self.to_client.extend(self.http2.take_out());
    }

    /// The next process goes on, before the library has said anything.
    fn depart(&mut self) {
        let Some((record, held)) = self.http2.depart() else { return };
        assert!(!self.has_moved || !self.to_library.is_empty());
        self.http2 = Http2::resumed(&record).expect("what departs can be resumed");
        self.has_moved = true;
        self.pass_on();
        self.from_library.clear();
        for part in parts(&held, self.cuts) {
            self.to_library.extend_from_slice(self.http2.client(part));
        }
    }
}

/// A frame whose parts are most often right.
fn frame(input: &mut Input<'_>) -> Vec<u8> {
    let (kind, flags, stream) = (input.byte(), input.byte(), input.byte());
    let kind = if kind < 0xf0 { kind % 10 } else { kind };
    let payload = match kind {
        3 | 8 => [&[0, 0][..], &[input.byte(), input.byte()]].concat(),
        4 if flags & 1 == 1 => Vec::new(),
        6 => vec![input.byte(); 8],
        7 => [&[0; 8], input.chunk()].concat(),
        _ => input.chunk().to_vec(),
    };
    let stream = if matches!(kind, 4 | 6 | 7) && stream < 0xf0 { 0 } else { stream % 16 };
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], &payload].concat()
}

type Streams = BTreeMap<u32, Vec<Vec<u8>>>;

/// The frames of each stream in their order. WINDOW_UPDATEs of the connection are one, as when they go out is no matter.
fn by_stream(mut bytes: &[u8], has_preface: bool) -> Streams {
    let mut streams = Streams::new();
    let mut update = 0;
    if has_preface {
        bytes = bytes.get(PREFACE.len()..).unwrap_or_default();
    }
    while bytes.len() >= 9 {
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) & 0x7fff_ffff;
        let (frame, rest) = bytes.split_at((9 + length).min(bytes.len()));
        bytes = rest;
        if stream == 0 && frame[3] == 8 && frame.len() == 13 {
            update += u64::from(u32::from_be_bytes([frame[9], frame[10], frame[11], frame[12]]) & 0x7fff_ffff);
        } else {
            let mut frame = frame.to_vec();
            // The reserved bit means nothing (RFC 9113, section 4.1), nor does the one of the last stream of a GOAWAY.
            frame[5] &= 0x7f;
            if frame[3] == 7 && frame.len() > 9 {
                frame[9] &= 0x7f;
            }
            streams.entry(stream).or_default().push(frame);
        }
    }
    if update > 0 {
        streams.entry(0).or_default().push(update.to_be_bytes().to_vec());
    }
    if !bytes.is_empty() {
        streams.entry(u32::MAX).or_default().push(bytes.to_vec());
    }
    streams
}

fn assert_same(whole: Streams, cut: Streams, may_lack_the_end: bool) {
    if !may_lack_the_end {
        return assert_eq!(whole, cut);
    }
    for (stream, frames) in whole {
        let Some(other) = cut.get(&stream) else { continue };
        // Nothing is left out any more as soon as the fault is noted, which is at the end of a read.
        if frames.iter().chain(other).any(|frame| frame.get(3) == Some(&3)) {
            continue;
        }
        let common = frames.len().min(other.len());
        assert_eq!(frames[..common], other[..common]);
    }
}

/// The beginning of a frame header waits for its end. The layer gives back what the client has sent on streams that were dropped.
fn without_updates(mut streams: Streams) -> Streams {
    streams.remove(&u32::MAX);
    streams.values_mut().for_each(|frames| frames.retain(|frame| frame.len() != 8));
    streams.retain(|_, frames| !frames.is_empty());
    streams
}

/// What the client got, but for the SETTINGS of the layer, of which there are as many as were asked for.
fn without_inserted(run: &Run<'_>) -> Streams {
    const INSERTED: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let mut streams = without_updates(by_stream(&run.to_client, false));
    let Some(frames) = streams.get_mut(&0).filter(|_| run.asks) else { return streams };
    let own = by_stream(&run.from_library, false);
    let count = |frames: &[Vec<u8>]| frames.iter().filter(|frame| *frame == INSERTED).count();
    if count(frames) > own.get(&0).map_or(0, |frames| count(frames)) {
        let at = frames.iter().position(|frame| frame == INSERTED).expect("there is one");
        frames.remove(at);
    }
    if streams[&0].is_empty() {
        streams.remove(&0);
    }
    streams
}
