//! Frames of new streams that wait for the move.

use super::{
    frame::{Head, kind},
    walk::{Piece, Walker},
};

/// How much waits at most: as much DATA as a client may send ahead with hyper's windows, so that what it sends on streams that
/// are open is not stuck behind. When it is full, no more is read of the client until the move is made or given up.
const MOST_BYTES: usize = 1024 * 1024;
const MOST_FRAMES: u32 = 256;

/// Frames of new streams as they came, in order.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// How many have come, those that were dropped as well.
    frames: u32,
    /// The highest identifier of a stream that was held.
    highest: u32,
    /// Streams of which nothing is held any more.
    dropped: Vec<u32>,
}

impl Held {
    /// A new stream begins with this frame.
    pub(super) fn open(&mut self, stream: u32) {
        self.highest = self.highest.max(stream);
    }

    /// The highest identifier of a stream that was held, or 0.
    pub(super) fn highest(&self) -> u32 {
        self.highest
    }

    pub(super) fn frame(&mut self, head: Head) {
        self.frames += 1;
        self.push(&head.encode());
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= MOST_BYTES || self.frames >= MOST_FRAMES
    }

    /// Whether the stream was dropped.
    pub(super) fn has_dropped(&self, stream: u32) -> bool {
        self.dropped.contains(&stream)
    }

    /// The client has reset it: drops its frames, and returns how much DATA they had. `None` if there are no frames of it.
    pub(super) fn drop_stream(&mut self, stream: u32) -> Option<u32> {
        self.frames += 1;
        let (mut kept, mut data) = (Vec::with_capacity(self.bytes.len()), 0_u32);
        let (mut walker, mut bytes, mut keeps) = (Walker::new(0), self.bytes.as_slice(), true);
        while let Some(piece) = walker.step(&mut bytes) {
            match piece {
                Piece::Head(head) => {
                    keeps = head.stream != stream;
                    if keeps {
                        kept.extend_from_slice(&head.encode());
                    } else if head.kind == kind::DATA {
                        data = data.saturating_add(head.length);
                    }
                }
                Piece::Payload(payload, _) if keeps => kept.extend_from_slice(payload),
                Piece::Payload(..) => {}
            }
        }
        if kept.len() == self.bytes.len() {
            return None;
        }
        self.bytes = kept;
        self.dropped.push(stream);
        Some(data)
    }

    /// The highest identifier that no stream has which is still held.
    pub(super) fn highest_free(&self) -> u32 {
        self.bytes.first_chunk().map_or(self.highest, |head| Head::parse(*head).stream.saturating_sub(2))
    }

    /// Takes all of it. What was dropped stays known.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let Self { bytes, dropped, .. } = std::mem::take(self);
        self.dropped = dropped;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(held: &mut Held, kind: u8, stream: u32, payload: &[u8]) {
        held.open(stream);
        held.frame(Head { length: u32::try_from(payload.len()).unwrap(), kind, flags: 0, stream });
        held.push(payload);
    }

    #[test]
    fn a_stream_that_was_reset_leaves_nothing_behind() {
        let mut held = Held::default();
        put(&mut held, kind::HEADERS, 5, b"five");
        put(&mut held, kind::HEADERS, 7, b"seven");
        put(&mut held, kind::DATA, 5, b"data of five");
        put(&mut held, kind::DATA, 7, b"data of seven");
        assert_eq!(held.drop_stream(3), None);
        assert!(!held.has_dropped(3));
        assert_eq!(held.drop_stream(5), Some(12));
        assert!(held.has_dropped(5));
        assert_eq!(held.highest_free(), 5);
        let mut other = Held::default();
        put(&mut other, kind::HEADERS, 7, b"seven");
        put(&mut other, kind::DATA, 7, b"data of seven");
        assert_eq!(held.bytes, other.bytes);
        assert_eq!((held.drop_stream(7), held.highest_free()), (Some(13), 7));
        assert_eq!(held.take(), b"");
        assert_eq!(held.highest_free(), 0);
    }

    #[test]
    fn what_was_dropped_counts_against_the_limit() {
        let mut held = Held::default();
        for stream in (1..).step_by(2).take(MOST_FRAMES as usize / 2) {
            assert!(!held.is_full());
            put(&mut held, kind::HEADERS, stream, b"");
            held.drop_stream(stream);
        }
        assert!(held.is_full());
    }
}
