//! Finds the frames in a stream of bytes that comes in pieces of any size.

use super::frame::{HEAD, Head};

/// What a walk has come upon.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole header; its frame is the current one from now on.
    Head(Head),
    /// Some of the payload of the current frame, and whether the frame ends with it.
    Payload(&'a [u8], bool),
}

/// A place in a stream of frames.
#[derive(Clone, Debug)]
pub(super) struct Walker {
    /// The beginning of the next header.
    partial: [u8; HEAD],
    length: usize,
    /// Bytes of the current frame that are still to come.
    left: u32,
    current: Option<Head>,
}

impl Walker {
    /// Begins at a frame, or before so many bytes that are no frame.
    pub(super) fn new(before: u32) -> Self {
        Self { partial: [0; HEAD], length: 0, left: before, current: None }
    }

    /// Takes the next piece off `bytes`; `None` when more must come first.
    #[inline]
    pub(super) fn step<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        if bytes.is_empty() {
            return None;
        }
        if self.left == 0 {
            return self.head(bytes).map(Piece::Head);
        }
        let here = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let (payload, rest) = bytes.split_at(here);
        *bytes = rest;
        self.left = self.left.saturating_sub(u32::try_from(here).unwrap_or(u32::MAX));
        Some(Piece::Payload(payload, self.left == 0))
    }

    /// Walks to the end of `bytes`. Calls `on` with each header and `None`, and with what there is of the payload then.
    ///
    /// As [`step`](Self::step), and cheaper: a frame that is whole in `bytes` leaves no trace in here.
    #[inline]
    pub(super) fn each(&mut self, mut bytes: &[u8], mut on: impl FnMut(Head, Option<&[u8]>)) {
        while !self.is_between_frames() {
            match self.step(&mut bytes) {
                Some(Piece::Head(head)) => on(head, None),
                Some(Piece::Payload(payload, _)) => _ = self.current.map(|head| on(head, Some(payload))),
                None => return,
            }
        }
        while let Some((head, rest)) = bytes.split_first_chunk() {
            let head = Head::parse(*head);
            on(head, None);
            let length = usize::try_from(head.length).unwrap_or(usize::MAX);
            let Some((payload, rest)) = rest.split_at_checked(length) else {
                (self.left, self.current) = (head.length, Some(head));
                bytes = rest;
                break;
            };
            on(head, Some(payload));
            bytes = rest;
        }
        while let Some(piece) = self.step(&mut bytes) {
            if let (Piece::Payload(payload, _), Some(head)) = (piece, self.current) {
                on(head, Some(payload));
            }
        }
    }

    #[inline]
    fn head(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        let head = match bytes.split_first_chunk() {
            Some((head, rest)) if self.length == 0 => {
                *bytes = rest;
                Head::parse(*head)
            }
            _ => self.gather(bytes)?,
        };
        self.left = head.length;
        self.current = Some(head);
        Some(head)
    }

    #[cold]
    fn gather(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        let room = self.partial.get_mut(self.length..)?;
        let here = bytes.len().min(room.len());
        let (taken, rest) = bytes.split_at(here);
        room[..here].copy_from_slice(taken);
        *bytes = rest;
        self.length += here;
        if self.length < HEAD {
            return None;
        }
        self.length = 0;
        Some(Head::parse(self.partial))
    }

    /// The frame whose header came last.
    pub(super) fn current(&self) -> Option<Head> {
        self.current
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.left == 0 && self.length == 0
    }

    /// Whether the current frame is not complete; the beginning of a header is no frame yet.
    pub(super) fn is_in_frame(&self) -> bool {
        self.left != 0
    }

    /// The beginning of the next header.
    pub(super) fn partial(&self) -> &[u8] {
        &self.partial[..self.length.min(HEAD)]
    }
}
