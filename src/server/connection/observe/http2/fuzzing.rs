//! HTTP/2 for the fuzz targets: the bytes of both sides in, what each gets out.

use bytes::Bytes;

use super::{
    frame::{HEAD, Head},
    header_block::BlockWalk,
    ready::Taken,
    session::{Session, Step},
};
use crate::drain::UnmovedReason;

/// Both directions of one connection.
#[derive(Debug)]
pub struct Http2(Session);

/// Where a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStep {
    /// None is asked for, or the client has not acknowledged yet.
    Before,
    /// New streams wait, or those that are open are in the way.
    Under,
    /// The connection does not move.
    Stays,
}

impl Http2 {
    /// A client is about to send its preface.
    #[must_use]
    pub fn accepted() -> Self {
        Self(Session::new())
    }

    /// A connection from another process, by its record in `postcard`.
    #[must_use]
    pub fn resumed(record: &[u8]) -> Option<Self> {
        Session::resume(&postcard::from_bytes(record).ok()?).map(Self)
    }

    /// The client has sent these bytes; what the library gets straight from it.
    pub fn client<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.0.is_fed() {
            self.0.feed_client(bytes);
            return &[];
        }
        self.0.observe_client(bytes);
        bytes
    }

    /// The client has closed its side.
    pub fn client_ends(&mut self) {
        if self.0.is_fed() {
            self.0.end_client();
        }
    }

    /// The library has written these bytes and flushed; what the client gets straight from it.
    pub fn library<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.0.is_fed() {
            self.0.feed_library(bytes);
            return &[];
        }
        self.0.observe_library(bytes);
        bytes
    }

    /// The library has flushed.
    pub fn library_flushes(&mut self) {
        if self.0.is_fed() {
            self.0.flushed();
        }
    }

    /// What the client gets.
    pub fn take_out(&mut self) -> Vec<u8> {
        if !self.0.is_fed() {
            return Vec::new();
        }
        let out = self.0.out().to_vec();
        self.0.advance(out.len());
        out
    }

    /// What a read of the library brings; empty for one that is pending once. `None` if there is nothing.
    pub fn take(&mut self, most: usize) -> Option<Bytes> {
        if !self.0.is_fed() {
            return None;
        }
        match self.0.take(most) {
            Taken::Bytes(bytes) => Some(bytes),
            Taken::Pause => Some(Bytes::new()),
            Taken::Nothing => {
                self.0.pass_if_transparent();
                None
            }
        }
    }

    /// Whether bytes of the client are to be read now.
    #[must_use]
    pub fn wants_client(&self) -> bool {
        !self.0.is_fed() || self.0.wants_client()
    }

    /// Whether the library gets nothing any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_fed() && self.0.is_over()
    }

    /// A move is asked for.
    pub fn ask(&mut self) {
        self.0.ask();
    }

    /// New streams have waited for long enough.
    pub fn stop_holding(&mut self) {
        self.0.stop_holding();
    }

    /// The streams that were in the way may have ended.
    pub fn hold_again(&mut self) {
        self.0.hold_again();
    }

    /// The time for the move is over.
    pub fn stay(&mut self) {
        if self.0.step() != Step::Passing {
            self.0.stay(UnmovedReason::OpenStreams);
        }
    }

    /// Where the move is.
    #[must_use]
    pub fn step(&self) -> MoveStep {
        match self.0.step() {
            Step::Passing | Step::Asked => MoveStep::Before,
            Step::Holding | Step::Emptied => MoveStep::Under,
            Step::Stays(_) => MoveStep::Stays,
        }
    }

    /// The record and the bytes that the next process gets, if the connection can move now.
    pub fn depart(&mut self) -> Option<(Vec<u8>, Bytes)> {
        let (record, held) = self.0.is_quiet().then(|| self.0.depart())?;
        Some((postcard::to_allocvec(&record).ok()?, held))
    }
}

/// What a header block does to the table of its compression, in frames from HEADERS to the last CONTINUATION.
///
/// Each frame is its header and its payload, in pieces. Before it, `inserted` entries were inserted. The answer is whether it sets the
/// size of the table to 0 and to more, whether it uses an older entry, how many it inserts, and whether it is malformed.
#[must_use]
pub fn header_block(inserted: u32, frames: &[([u8; HEAD], Vec<&[u8]>)]) -> (bool, bool, bool, u32, bool) {
    let mut walk = BlockWalk::new(inserted);
    for (head, pieces) in frames {
        walk.frame(Head::parse(*head));
        pieces.iter().for_each(|piece| walk.feed(piece));
    }
    let found = walk.found;
    (found.emptied, found.resized, found.used_older, found.inserted, found.malformed)
}
