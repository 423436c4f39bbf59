//! DATA that the library has written and the client does not allow yet.
//!
//! A new instance of the library begins with a window of 65,535 on the connection, and that can only be made greater.
//! If the client allowed less at the move, the library writes more than the client allows, by that shortfall at most.
//! So the difference waits here, and as much of the client's next `WINDOW_UPDATE`s is withheld from the library.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{
    frame::{HEAD, Head, flag, kind},
    seen::Seen,
};

/// How much waits at most that is no DATA, which the windows of the library limit.
const MOST_BYTES: usize = 1024 * 1024;

/// Frames that wait for the client's `WINDOW_UPDATE`, in order.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// How much of the client's `WINDOW_UPDATE`s is still to be withheld from the library.
    shortfall: u32,
    waiting: VecDeque<Waiting>,
    /// How much of that is no DATA.
    bytes: usize,
    /// How much of the payload of the library's current frame goes out, before the rest waits.
    passing: u32,
}

#[derive(Debug)]
enum Waiting {
    Data {
        stream: u32,
        bytes: BytesMut,
        ends_stream: bool,
    },
    /// Header blocks, a reset, an acknowledgement of SETTINGS: whole frames.
    Frames {
        stream: u32,
        heads: Vec<Head>,
        bytes: BytesMut,
    },
}

impl Waiting {
    fn stream(&self) -> u32 {
        match self {
            Self::Data { stream, .. } | Self::Frames { stream, .. } => *stream,
        }
    }
}

impl Gate {
    pub(super) fn new(shortfall: u32) -> Self {
        Self { shortfall, ..Self::default() }
    }

    /// Whether all frames may pass from now on.
    pub(super) fn is_open(&self) -> bool {
        self.shortfall == 0 && self.waiting.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether more waits than may: the client asks on and on, and takes no DATA.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > MOST_BYTES
    }

    /// Whether `WINDOW_UPDATE`s are withheld.
    pub(super) fn withholds(&self) -> bool {
        self.shortfall > 0
    }

    /// How much of this increment the library is to see.
    pub(super) fn withhold(&mut self, increment: u32) -> u32 {
        let withheld = increment.min(self.shortfall);
        self.shortfall -= withheld;
        increment - withheld
    }

    /// Whether something of the stream waits, so that what comes after it must wait as well.
    pub(super) fn has(&self, stream: u32) -> bool {
        self.waiting.iter().any(|waiting| waiting.stream() == stream)
    }

    /// Whether a header block must wait: behind something of its stream, or behind an earlier block, as the client decodes them in the order
    /// in which they were encoded (RFC 7541, section 2.2).
    pub(super) fn holds_block(&self, stream: u32) -> bool {
        self.waiting.iter().any(|waiting| matches!(waiting, Waiting::Frames { .. }) || waiting.stream() == stream)
    }

    /// The client has reset the stream: DATA that waits of it is dropped. The library has counted it as sent, so less is to be withheld.
    /// Its header blocks still come, as they may have changed the table of the client.
    pub(super) fn reset(&mut self, stream: u32) {
        for waiting in &self.waiting {
            if let Waiting::Data { stream: of, bytes, .. } = waiting {
                let dropped = if *of == stream { u32::try_from(bytes.len()).unwrap_or(u32::MAX) } else { 0 };
                self.shortfall = self.shortfall.saturating_sub(dropped);
            }
        }
        self.waiting.retain(|waiting| waiting.stream() != stream || matches!(waiting, Waiting::Frames { .. }));
    }

    /// The library begins a DATA frame. What the client allows of it goes out.
    pub(super) fn data(&mut self, head: Head, seen: &mut Seen, out: &mut BytesMut) {
        let room = if self.has(head.stream) { 0 } else { allowed(seen) };
        self.passing = head.length.min(room);
        let is_whole = self.passing == head.length && !self.has(head.stream);
        if is_whole || self.passing > 0 {
            let flags = if is_whole { head.flags } else { head.flags & !flag::END_STREAM };
            emit(Head { length: self.passing, flags, ..head }, seen, out);
        }
        if !is_whole {
            let (stream, ends_stream) = (head.stream, head.ends_stream());
            self.waiting.push_back(Waiting::Data { stream, bytes: BytesMut::new(), ends_stream });
        }
    }

    /// Some of the payload of that frame.
    pub(super) fn data_payload(&mut self, of: u32, payload: &[u8], out: &mut BytesMut) {
        let here = payload.len().min(usize::try_from(self.passing).unwrap_or(usize::MAX));
        let (passing, waits) = payload.split_at(here);
        self.passing -= u32::try_from(here).unwrap_or(self.passing);
        out.extend_from_slice(passing);
        match self.waiting.back_mut() {
            Some(Waiting::Data { stream, bytes, .. }) if *stream == of => bytes.extend_from_slice(waits),
            // It was reset meanwhile.
            _ => self.shortfall = self.shortfall.saturating_sub(u32::try_from(waits.len()).unwrap_or(u32::MAX)),
        }
    }

    /// The library begins a frame that waits.
    pub(super) fn frame(&mut self, head: Head) {
        self.bytes += HEAD;
        match self.waiting.back_mut() {
            Some(Waiting::Frames { stream, heads, .. }) if *stream == head.stream => heads.push(head),
            _ => {
                let frames = Waiting::Frames { stream: head.stream, heads: vec![head], bytes: BytesMut::new() };
                self.waiting.push_back(frames);
            }
        }
    }

    /// Some of the payload of that frame.
    pub(super) fn frame_payload(&mut self, of: u32, payload: &[u8]) {
        match self.waiting.back_mut() {
            Some(Waiting::Frames { stream, bytes, .. }) if *stream == of => {
                self.bytes += payload.len();
                bytes.extend_from_slice(payload);
            }
            _ => {}
        }
    }

    /// Lets out what the client allows by now: between two frames of the library only.
    pub(super) fn drain(&mut self, seen: &mut Seen, out: &mut BytesMut) {
        while let Some(waiting) = self.waiting.front_mut() {
            if let Waiting::Frames { heads, bytes, .. } = waiting {
                self.bytes -= heads.len() * HEAD + bytes.len();
            }
            if !waiting.drain(seen, out) {
                return;
            }
            self.waiting.pop_front();
        }
    }
}

impl Waiting {
    /// Whether nothing of it is left.
    fn drain(&mut self, seen: &mut Seen, out: &mut BytesMut) -> bool {
        match self {
            Self::Data { stream, bytes, ends_stream } => drain_data(*stream, bytes, *ends_stream, seen, out),
            Self::Frames { heads, bytes, .. } => {
                for head in heads {
                    emit(*head, seen, out);
                    out.extend_from_slice(&bytes.split_to(bytes.len().min(head.length as usize)));
                }
                true
            }
        }
    }
}

fn drain_data(stream: u32, bytes: &mut BytesMut, ends_stream: bool, seen: &mut Seen, out: &mut BytesMut) -> bool {
    let room = usize::try_from(allowed(seen)).unwrap_or(usize::MAX);
    let chunk = bytes.split_to(bytes.len().min(room));
    let is_last = bytes.is_empty();
    let flags = if is_last && ends_stream { flag::END_STREAM } else { 0 };
    if !chunk.is_empty() || (is_last && ends_stream) {
        let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        emit(Head { length, kind: kind::DATA, flags, stream }, seen, out);
        out.extend_from_slice(&chunk);
    }
    is_last
}

/// How much DATA the client allows.
fn allowed(seen: &Seen) -> u32 {
    u32::try_from(seen.send_window.max(0)).unwrap_or(u32::MAX)
}

fn emit(head: Head, seen: &mut Seen, out: &mut BytesMut) {
    seen.library_frame(head);
    out.extend_from_slice(&head.encode());
}
