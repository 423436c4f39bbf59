//! From the library to the client: frames of the layer go between those of the library, and the library's part of an
//! opening that was played is swallowed.

use bytes::{Buf, BytesMut};

use super::{
    frame::{Head, flag, kind},
    gate::Gate,
    opening::Opening,
    seen::{Gather, Seen},
    settings::Settings,
    walk::{Piece, Walker},
};
use crate::drain::UnmovedReason;

/// Where the current frame of the library goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Client,
    Nothing,
    /// It is the library's SETTINGS of an opening that was played, or its first `WINDOW_UPDATE`.
    OpeningSettings,
    OpeningWindow,
    /// It is a GOAWAY, whose last stream may have to be an old one.
    Goaway,
    /// It is DATA, or another frame of a stream with DATA that waits.
    Gate,
    BehindGate,
}

/// Frames on their way to the client.
#[derive(Debug)]
pub(super) struct Outbound {
    walker: Walker,
    /// How much of the header that is coming has gone out before frames were looked at.
    sent_head: usize,
    /// Whether a header block of the library is not complete.
    in_block: bool,
    to: To,
    out: BytesMut,
    /// Frames of the layer that wait for the end of a frame of the library.
    inserted: Vec<u8>,
    pub(super) gate: Gate,
    opening: Option<Opening>,
    /// No GOAWAY may name a lower stream: those up to this one were answered before the connection moved.
    old: u32,
    gather: Gather,
}

impl Outbound {
    pub(super) fn new() -> Self {
        Self {
            walker: Walker::new(0),
            sent_head: 0,
            in_block: false,
            to: To::Client,
            out: BytesMut::new(),
            inserted: Vec::new(),
            gate: Gate::default(),
            opening: None,
            old: 0,
            gather: Gather::default(),
        }
    }

    /// To a client that knows an opening already.
    pub(super) fn resumed(old: u32, shortfall: u32) -> Self {
        Self { opening: Some(Opening::new()), gate: Gate::new(shortfall), old, ..Self::new() }
    }

    /// Notes what the library has written straight to the client.
    #[inline]
    pub(super) fn observe(&mut self, bytes: &[u8], seen: &mut Seen) {
        let Self { walker, in_block, .. } = self;
        walker.each(bytes, |head, payload| match payload {
            None => {
                note_block(in_block, head);
                seen.library_frame(head);
            }
            Some(payload) => seen.library_payload(head, payload),
        });
    }

    /// From now on frames are looked at before they go out.
    pub(super) fn start_feeding(&mut self) {
        self.sent_head = self.walker.partial().len();
        self.to = To::Client;
    }

    /// Whether frames may go straight to the client.
    pub(super) fn is_transparent(&self) -> bool {
        self.is_quiet() && self.gate.is_open()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_between_frames() && self.out.is_empty() && self.inserted.is_empty() && self.is_done_opening()
    }

    /// Whether the library has done its part of the opening.
    pub(super) fn is_done_opening(&self) -> bool {
        self.opening.is_none()
    }

    fn is_between_frames(&self) -> bool {
        self.walker.is_between_frames() && !self.in_block && self.gate.is_empty()
    }

    /// Bytes for the socket.
    pub(super) fn out(&self) -> &[u8] {
        &self.out
    }

    pub(super) fn advance(&mut self, written: usize) {
        self.out.advance(written.min(self.out.len()));
    }

    /// A frame of the layer goes out as soon as it can.
    pub(super) fn insert(&mut self, frame: &[u8]) {
        self.inserted.extend_from_slice(frame);
    }

    /// Whether frames of the layer wait already.
    pub(super) fn has_inserted(&self) -> bool {
        !self.inserted.is_empty()
    }

    /// Lets go out what waits, if the library is between two frames.
    pub(super) fn pump(&mut self, seen: &mut Seen) {
        if self.walker.is_between_frames() && !self.in_block {
            self.between_frames(seen);
        }
    }

    fn between_frames(&mut self, seen: &mut Seen) {
        // The first frame is the library's (RFC 9113, section 3.4).
        if seen.has_own_settings() {
            self.out.extend_from_slice(&std::mem::take(&mut self.inserted));
        }
        self.gate.drain(seen, &mut self.out);
    }

    /// The library writes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], seen: &mut Seen) -> Result<(), UnmovedReason> {
        while let Some(piece) = self.walker.step(&mut bytes) {
            match piece {
                Piece::Head(head) => self.head(head, seen)?,
                Piece::Payload(payload, ends) => self.payload(payload, ends, seen)?,
            }
        }
        self.pump(seen);
        if self.gate.is_full() { Err(UnmovedReason::NotUnderstood) } else { Ok(()) }
    }

    fn head(&mut self, head: Head, seen: &mut Seen) -> Result<(), UnmovedReason> {
        let sent = std::mem::take(&mut self.sent_head);
        if sent == 0 && !self.in_block {
            self.between_frames(seen);
        }
        self.to = if sent == 0 { self.route(head, seen) } else { To::Client };
        note_block(&mut self.in_block, head);
        match self.to {
            To::Client | To::Goaway => {
                seen.library_frame(head);
                self.out.extend_from_slice(&head.encode()[sent..]);
            }
            To::Gate => self.gate.data(head, seen, &mut self.out),
            To::BehindGate => self.gate.frame(head),
            To::OpeningSettings | To::OpeningWindow | To::Nothing => {}
        }
        self.gather.clear();
        if head.length == 0 { self.payload(&[], true, seen) } else { Ok(()) }
    }

    fn route(&mut self, head: Head, seen: &mut Seen) -> To {
        if let Some(to) = self.opening.as_mut().and_then(|opening| route_opening(opening, head)) {
            return to;
        }
        match head.kind {
            kind::GOAWAY => To::Goaway,
            _ if self.gate.is_open() => To::Client,
            kind::DATA if head.has(flag::PADDED) => {
                // The library never pads.
                seen.note_fault(UnmovedReason::NotUnderstood);
                To::Client
            }
            kind::DATA => To::Gate,
            kind::HEADERS | kind::CONTINUATION if self.gate.holds_block(head.stream) => To::BehindGate,
            // The client keeps to its new settings from the acknowledgement on, and what waits is of before.
            kind::SETTINGS if head.has(flag::ACK) && !self.gate.is_empty() => To::BehindGate,
            // The library resets a stream behind a whole answer too, if the request was not read to its end (RFC 9113, section 8.1).
            kind::RST_STREAM if self.gate.has(head.stream) => To::BehindGate,
            _ => To::Client,
        }
    }

    fn payload(&mut self, mut payload: &[u8], ends: bool, seen: &mut Seen) -> Result<(), UnmovedReason> {
        let Some(head) = self.walker.current() else { return Ok(()) };
        match self.to {
            To::Client => {
                seen.library_payload(head, payload);
                self.out.extend_from_slice(payload);
            }
            To::Goaway => {
                seen.library_payload(head, payload);
                self.goaway(payload);
            }
            To::Gate => self.gate.data_payload(head.stream, payload, &mut self.out),
            To::BehindGate => self.gate.frame_payload(head.stream, payload),
            To::OpeningSettings => return self.opening_settings(payload, ends, seen),
            To::OpeningWindow => {
                if let (Some(increment), Some(opening)) = (self.gather.value(&mut payload), &mut self.opening) {
                    opening.window += i64::from(increment);
                }
            }
            To::Nothing => {}
        }
        Ok(())
    }

    /// The last stream of a GOAWAY comes first.
    fn goaway(&mut self, mut payload: &[u8]) {
        if let Some(last) = self.gather.value(&mut payload) {
            self.out.extend_from_slice(&last.max(self.old).to_be_bytes());
            self.to = To::Client;
            self.out.extend_from_slice(payload);
        }
    }

    fn opening_settings(&mut self, mut payload: &[u8], ends: bool, seen: &mut Seen) -> Result<(), UnmovedReason> {
        let Some(opening) = &mut self.opening else { return Ok(()) };
        while let Some((id, value)) = self.gather.setting(&mut payload) {
            opening.setting(id, value);
        }
        if ends {
            let announced = opening.announcement(seen).ok_or(UnmovedReason::NotUnderstood)?;
            self.announce(announced, seen);
        }
        Ok(())
    }

    /// The layer sends SETTINGS, whose acknowledgement the library does not see.
    pub(super) fn announce(&mut self, values: Settings, seen: &mut Seen) {
        self.insert(&super::frame::settings(values.pairs()));
        seen.layer_settings(values);
    }

    /// The library has flushed all that it has. Lets the client send as much as the library expects, if that is known now.
    pub(super) fn flushed(&mut self, seen: &mut Seen) -> Result<(), UnmovedReason> {
        let Some(opening) = self.opening.take_if(|opening| opening.is_complete()) else { return Ok(()) };
        let granted = u32::try_from(opening.window - seen.receive_window).map_err(|_| UnmovedReason::NotUnderstood)?;
        if granted > 0 {
            self.insert(&super::frame::window_update(0, granted));
        }
        seen.receive_window = opening.window;
        self.pump(seen);
        Ok(())
    }
}

#[inline]
fn note_block(in_block: &mut bool, head: Head) {
    if matches!(head.kind, kind::HEADERS | kind::CONTINUATION) {
        *in_block = !head.has(flag::END_HEADERS);
    }
}

fn route_opening(opening: &mut Opening, head: Head) -> Option<To> {
    match head.kind {
        kind::SETTINGS if head.has(flag::ACK) => opening.acknowledge().then_some(To::Nothing),
        kind::SETTINGS if opening.awaits_settings() => {
            opening.begin_settings();
            Some(To::OpeningSettings)
        }
        kind::WINDOW_UPDATE if head.stream == 0 => Some(To::OpeningWindow),
        _ => None,
    }
}
