//! What both sides have agreed upon so far: settings, windows, open streams, and what one still owes the other.
//!
//! It counts what the library has been given and what it has written. A frame that is held back counts as not received.

use std::collections::VecDeque;

use super::{
    frame::{Head, flag, kind},
    settings::{HEADER_TABLE_SIZE, MAX_FRAME_SIZE, Settings},
    streams::OpenStreams,
};
use crate::drain::UnmovedReason;

/// What a window is before anything changes it (RFC 9113, section 6.9.2).
pub(super) const FIRST_WINDOW: i64 = 65_535;

/// SETTINGS that the client has not acknowledged yet.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Not the library has written them, and it must not see the acknowledgement.
    pub(super) by_layer: bool,
    pub(super) values: Settings,
}

/// What both sides have agreed upon.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) streams: OpenStreams,
    /// The highest identifier that the client has opened a stream with.
    pub(super) highest: u32,
    /// The client's settings.
    pub(super) client: Settings,
    /// The settings of this side that the client has acknowledged.
    pub(super) own: Settings,
    sent: VecDeque<Sent>,
    has_client_settings: bool,
    has_own_settings: bool,
    /// Acknowledgements that this side owes, and those of pings that the client owes.
    settings_owed: u32,
    pings_owed: u32,
    pongs_awaited: u32,
    /// How much DATA each side may still send on the connection.
    pub(super) send_window: i64,
    pub(super) receive_window: i64,
    /// The library ignores streams above this one, as its GOAWAY has said.
    last_accepted: u32,
    reads_goaway: bool,
    fault: Option<UnmovedReason>,
    from_client: Gather,
    from_library: Gather,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            streams: OpenStreams::default(),
            highest: 0,
            client: Settings::default(),
            own: Settings::default(),
            sent: VecDeque::new(),
            has_client_settings: false,
            has_own_settings: false,
            settings_owed: 0,
            pings_owed: 0,
            pongs_awaited: 0,
            send_window: FIRST_WINDOW,
            receive_window: FIRST_WINDOW,
            last_accepted: u32::MAX,
            reads_goaway: false,
            fault: None,
            from_client: Gather::default(),
            from_library: Gather::default(),
        }
    }

    /// A connection on which settings have been exchanged.
    pub(super) fn resumed(client: Settings, own: Settings) -> Self {
        Self { client, own, has_client_settings: true, has_own_settings: true, ..Self::new() }
    }

    /// Why the connection cannot move, whatever comes.
    pub(super) fn fault(&self) -> Option<UnmovedReason> {
        self.fault
    }

    /// The first one stands.
    #[cold]
    pub(super) fn note_fault(&mut self, fault: UnmovedReason) {
        self.fault.get_or_insert(fault);
    }

    /// Whether no stream is open, and neither side owes the other anything.
    pub(super) fn is_quiet(&self) -> bool {
        let Self { settings_owed, pings_owed, pongs_awaited, .. } = self;
        let owes_nothing = settings_owed | pings_owed | pongs_awaited == 0 && self.sent.is_empty();
        let has_opened = self.has_client_settings && self.has_own_settings;
        has_opened && owes_nothing && self.streams.is_empty() && self.fault.is_none()
    }

    /// Whether the library has written its first frame, before which nothing may be sent.
    pub(super) fn has_own_settings(&self) -> bool {
        self.has_own_settings
    }

    /// The library gets a frame of the client.
    #[inline]
    pub(super) fn client_frame(&mut self, head: Head) {
        if head.length > 16_384 || !head.is_well_formed() {
            self.check_length(head);
        }
        match head.kind {
            kind::HEADERS if head.stream > self.highest => {
                self.highest = head.stream;
                if head.stream <= self.last_accepted {
                    self.streams.open(head.stream, head.ends_stream());
                }
            }
            kind::HEADERS | kind::DATA => {
                if head.kind == kind::DATA {
                    self.receive_window -= i64::from(head.length);
                }
                if head.ends_stream() {
                    self.streams.client_ended(head.stream);
                }
            }
            _ => self.client_control(head),
        }
    }

    fn client_control(&mut self, head: Head) {
        self.from_client.clear();
        match head.kind {
            kind::RST_STREAM => self.streams.reset(head.stream),
            kind::SETTINGS if head.has(flag::ACK) => _ = self.acknowledged(),
            kind::SETTINGS => {
                self.has_client_settings = true;
                self.settings_owed = self.settings_owed.saturating_add(1);
            }
            kind::PING if head.has(flag::ACK) => self.pongs_awaited = self.pongs_awaited.saturating_sub(1),
            kind::PING => self.pings_owed = self.pings_owed.saturating_add(1),
            kind::GOAWAY => self.note_fault(UnmovedReason::GoingAway),
            _ => {}
        }
    }

    #[cold]
    fn check_length(&mut self, head: Head) {
        let sent = self.sent.iter().map(|sent| sent.values.value(MAX_FRAME_SIZE)).max();
        let limit = self.own.value(MAX_FRAME_SIZE).max(sent.unwrap_or(0));
        if head.length > limit || !head.is_well_formed() {
            self.note_fault(UnmovedReason::NotUnderstood);
        }
    }

    /// The library gets some of the payload of that frame.
    #[inline]
    pub(super) fn client_payload(&mut self, head: Head, payload: &[u8]) {
        match head.kind {
            kind::SETTINGS => self.client_settings(payload),
            kind::WINDOW_UPDATE if head.stream == 0 => {
                let increment = self.from_client.increment(payload);
                self.send_window += increment.map_or(0, i64::from);
            }
            _ => {}
        }
    }

    fn client_settings(&mut self, mut payload: &[u8]) {
        while let Some((id, value)) = self.from_client.setting(&mut payload) {
            if !self.client.set(id, value) {
                self.note_fault(UnmovedReason::NotUnderstood);
            }
        }
    }

    /// A frame goes to the client.
    #[inline]
    pub(super) fn library_frame(&mut self, head: Head) {
        match head.kind {
            kind::HEADERS | kind::DATA => {
                if head.kind == kind::DATA {
                    self.send_window -= i64::from(head.length);
                }
                if head.ends_stream() {
                    self.streams.server_ended(head.stream);
                }
            }
            kind::CONTINUATION => {}
            _ => self.library_control(head),
        }
    }

    fn library_control(&mut self, head: Head) {
        self.from_library.clear();
        match head.kind {
            kind::RST_STREAM => self.streams.reset(head.stream),
            kind::SETTINGS if head.has(flag::ACK) => self.settings_owed = self.settings_owed.saturating_sub(1),
            kind::SETTINGS => {
                self.has_own_settings = true;
                self.sent.push_back(Sent { by_layer: false, values: Settings::default() });
            }
            kind::PING if head.has(flag::ACK) => self.pings_owed = self.pings_owed.saturating_sub(1),
            kind::PING => self.pongs_awaited = self.pongs_awaited.saturating_add(1),
            kind::GOAWAY => {
                self.reads_goaway = true;
                self.note_fault(UnmovedReason::GoingAway);
            }
            kind::WINDOW_UPDATE => {}
            _ => self.note_fault(UnmovedReason::NotUnderstood),
        }
    }

    /// Some of the payload of that frame goes to the client.
    #[inline]
    pub(super) fn library_payload(&mut self, head: Head, payload: &[u8]) {
        match head.kind {
            kind::SETTINGS => self.library_settings(payload),
            kind::GOAWAY if self.reads_goaway => {
                if let Some(last) = self.from_library.increment(payload) {
                    (self.last_accepted, self.reads_goaway) = (last, false);
                }
            }
            kind::WINDOW_UPDATE if head.stream == 0 => {
                let increment = self.from_library.increment(payload);
                self.receive_window += increment.map_or(0, i64::from);
            }
            _ => {}
        }
    }

    fn library_settings(&mut self, mut payload: &[u8]) {
        while let Some((id, value)) = self.from_library.setting(&mut payload) {
            if let Some(sent) = self.sent.back_mut() {
                sent.values.set(id, value);
            }
        }
    }

    /// The layer itself sends SETTINGS.
    pub(super) fn layer_settings(&mut self, values: Settings) {
        self.sent.push_back(Sent { by_layer: true, values });
    }

    /// Whether the next acknowledgement is one that the library must not see.
    pub(super) fn next_is_of_layer(&self) -> bool {
        self.sent.front().is_some_and(|sent| sent.by_layer)
    }

    /// Whether the client has not acknowledged SETTINGS of the layer.
    pub(super) fn awaits_layer(&self) -> bool {
        self.sent.iter().any(|sent| sent.by_layer)
    }

    /// The client has acknowledged the SETTINGS that were sent first.
    pub(super) fn acknowledged(&mut self) -> Option<Sent> {
        let Some(sent) = self.sent.pop_front() else {
            self.note_fault(UnmovedReason::NotUnderstood);
            return None;
        };
        if sent.by_layer {
            sent.values.pairs().filter(|(id, _)| *id != HEADER_TABLE_SIZE).for_each(|(id, value)| {
                self.own.set(id, value);
            });
        } else {
            self.own.merge(&sent.values);
        }
        Some(sent)
    }
}

/// Puts together short values that come in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gather {
    bytes: [u8; 6],
    length: usize,
}

impl Gather {
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Takes so many bytes, at most 6, once all of them have come.
    fn take(&mut self, bytes: &mut &[u8], wanted: usize) -> Option<[u8; 6]> {
        while self.length < wanted {
            let (first, rest) = bytes.split_first()?;
            *self.bytes.get_mut(self.length)? = *first;
            *bytes = rest;
            self.length += 1;
        }
        self.length = 0;
        Some(self.bytes)
    }

    /// The next setting.
    pub(super) fn setting(&mut self, bytes: &mut &[u8]) -> Option<(u16, u32)> {
        let [a, b, value @ ..] = self.take(bytes, 6)?;
        Some((u16::from_be_bytes([a, b]), u32::from_be_bytes(value)))
    }

    /// A value of 31 bits: of `WINDOW_UPDATE`, or the stream of a GOAWAY.
    pub(super) fn increment(&mut self, mut bytes: &[u8]) -> Option<u32> {
        self.value(&mut bytes)
    }

    /// As [`increment`](Self::increment); takes what it uses off `bytes`.
    pub(super) fn value(&mut self, bytes: &mut &[u8]) -> Option<u32> {
        let [a, b, c, d, ..] = self.take(bytes, 4)?;
        Some(u32::from_be_bytes([a, b, c, d]) & super::frame::MAX_31)
    }
}
