//! Bytes on their way to the library, which gets them one header block at a time.
//!
//! The library accepts the streams that a read has brought only when the next read is pending. So many short streams in
//! one read look like an attack to it (`too_many_resets`, `too_many_data_frames`).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes for the library.
#[derive(Debug, Default)]
pub(super) struct Ready {
    bytes: BytesMut,
    /// How many were taken, and after how many a read is to be pending once.
    taken: u64,
    stops: VecDeque<u64>,
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

    /// What comes after this is for another read.
    pub(super) fn stop(&mut self) {
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
}
