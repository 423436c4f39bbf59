//! Bytes on their way to the library, which gets them one header block at a time.
//!
//! The library accepts the streams that a read has brought only when the next read is pending, and a handler reads only what
//! was accepted. So many short streams, or many small frames, look like an attack to it when they come at once
//! (`too_many_resets`, `too_many_data_frames`), and what was held back comes at once.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::frame::{Head, kind};

/// How many frames of DATA are given to the library before a handler may read them. With its default window h2 allows some
/// 100 frames of one byte that are not read.
const MOST_DATA: u32 = 32;

/// Bytes for the library.
#[derive(Debug, Default)]
pub(super) struct Ready {
    bytes: BytesMut,
    /// How many were taken, and after how many a read is to be pending once.
    taken: u64,
    stops: VecDeque<u64>,
    /// Frames of DATA since the last stop.
    data: u32,
}

/// What a read of the library brings.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) enum Taken {
    Bytes(Bytes),
    /// More is there, for another read.
    Pause,
    Nothing,
}

impl Ready {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A frame is complete with what was pushed last.
    pub(super) fn end_frame(&mut self, head: Head) {
        self.data += u32::from(head.kind == kind::DATA);
        if head.ends_block() || self.data == MOST_DATA {
            self.stop();
        }
    }

    /// What comes after this is for another read.
    fn stop(&mut self) {
        self.data = 0;
        self.stops.push_back(self.taken + self.bytes.len() as u64);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes at most so many bytes.
    pub(super) fn take(&mut self, most: usize) -> Taken {
        if self.bytes.is_empty() {
            self.stops.clear();
            return Taken::Nothing;
        }
        if self.stops.front() == Some(&self.taken) {
            self.stops.pop_front();
            return Taken::Pause;
        }
        let to_stop = self.stops.front().map_or(u64::MAX, |stop| stop - self.taken);
        let here = self.bytes.len().min(most).min(usize::try_from(to_stop).unwrap_or(usize::MAX));
        self.taken += here as u64;
        Taken::Bytes(self.bytes.split_to(here).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_one_pending_read_and_only_where_more_follows() {
        let mut ready = Ready::default();
        ready.push(b"abc");
        ready.stop();
        ready.push(b"d");
        ready.stop();
        assert_eq!(ready.take(2), Taken::Bytes("ab".into()));
        assert_eq!(ready.take(9), Taken::Bytes("c".into()));
        assert_eq!(ready.take(9), Taken::Pause);
        assert_eq!(ready.take(9), Taken::Bytes("d".into()));
        assert_eq!(ready.take(9), Taken::Nothing);
        ready.push(b"e");
        assert_eq!(ready.take(9), Taken::Bytes("e".into()));
    }

    #[test]
    fn many_frames_of_data_are_for_several_reads() {
        let mut ready = Ready::default();
        for _ in 0..70 {
            ready.push(b"x");
            ready.end_frame(Head { length: 1, kind: kind::DATA, flags: 0, stream: 1 });
        }
        let mut lengths = Vec::new();
        loop {
            match ready.take(100) {
                Taken::Bytes(bytes) => lengths.push(bytes.len()),
                Taken::Pause => {}
                Taken::Nothing => break,
            }
        }
        assert_eq!(lengths, [32, 32, 6]);
    }
}
