//! The header of an HTTP/2 frame (RFC 9113, section 4.1), and the frames that this side writes itself.

/// The length of a frame's header.
pub(in crate::server) const HEAD: usize = 9;

/// What a client begins with (RFC 9113, section 3.4).
pub(in crate::server) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The greatest stream identifier, and the greatest window.
pub(in crate::server) const MAX_31: u32 = (1 << 31) - 1;

/// Types of frames (RFC 9113, section 6).
pub(in crate::server) mod kind {
    pub(in crate::server) const DATA: u8 = 0;
    pub(in crate::server) const HEADERS: u8 = 1;
    pub(in crate::server) const PRIORITY: u8 = 2;
    pub(in crate::server) const RST_STREAM: u8 = 3;
    pub(in crate::server) const SETTINGS: u8 = 4;
    pub(in crate::server) const PUSH_PROMISE: u8 = 5;
    pub(in crate::server) const PING: u8 = 6;
    pub(in crate::server) const GOAWAY: u8 = 7;
    pub(in crate::server) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::server) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(in crate::server) mod flag {
    pub(in crate::server) const END_STREAM: u8 = 0x1;
    pub(in crate::server) const ACK: u8 = 0x1;
    pub(in crate::server) const END_HEADERS: u8 = 0x4;
    pub(in crate::server) const PADDED: u8 = 0x8;
    pub(in crate::server) const PRIORITY: u8 = 0x20;
}

/// Error codes (RFC 9113, section 7).
pub(in crate::server) mod code {
    pub(in crate::server) const NO_ERROR: u32 = 0;
    pub(in crate::server) const INTERNAL_ERROR: u32 = 2;
    pub(in crate::server) const STREAM_CLOSED: u32 = 5;
    pub(in crate::server) const CANCEL: u32 = 8;
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Head {
    /// Of the payload; 24 bits.
    pub(in crate::server) length: u32,
    pub(in crate::server) kind: u8,
    pub(in crate::server) flags: u8,
    /// 31 bits; the reserved one is ignored (section 4.1).
    pub(in crate::server) stream: u32,
}

impl Head {
    #[inline]
    pub(in crate::server) fn parse(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Self { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream: u32::from_be_bytes(stream) & MAX_31 }
    }

    pub(in crate::server) fn encode(self) -> [u8; HEAD] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [w, x, y, z] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, w, x, y, z]
    }

    #[inline]
    pub(in crate::server) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether nothing of its stream comes after it in its direction, but for the rest of a header block.
    #[inline]
    pub(in crate::server) fn ends_stream(self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.has(flag::END_STREAM)
    }

    /// Whether it is the last frame of a header block.
    #[inline]
    pub(in crate::server) fn ends_block(self) -> bool {
        matches!(self.kind, kind::HEADERS | kind::CONTINUATION) && self.has(flag::END_HEADERS)
    }

    pub(in crate::server) fn is_settings_ack(self) -> bool {
        self.kind == kind::SETTINGS && self.has(flag::ACK)
    }

    /// Whether the length and the stream are possible for such a frame (RFC 9113, section 6).
    pub(in crate::server) fn is_well_formed(self) -> bool {
        let Self { length, stream, .. } = self;
        match self.kind {
            // A client opens odd streams (section 5.1.1).
            kind::HEADERS => stream % 2 == 1,
            kind::DATA | kind::CONTINUATION => stream != 0,
            kind::PRIORITY => length == 5 && stream != 0,
            kind::RST_STREAM => length == 4 && stream != 0,
            kind::SETTINGS => stream == 0 && if self.has(flag::ACK) { length == 0 } else { length % 6 == 0 },
            kind::PING => length == 8 && stream == 0,
            kind::GOAWAY => length >= 8 && stream == 0,
            kind::WINDOW_UPDATE => length == 4,
            kind::PUSH_PROMISE => false,
            _ => true,
        }
    }
}

/// A SETTINGS frame with these values.
pub(in crate::server) fn settings(values: impl IntoIterator<Item = (u16, u32)>) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in values {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(kind::SETTINGS, 0, 0, &payload)
}

pub(in crate::server) fn settings_ack() -> Vec<u8> {
    frame(kind::SETTINGS, flag::ACK, 0, &[])
}

pub(in crate::server) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(in crate::server) fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(in crate::server) fn goaway(last: u32, code: u32) -> Vec<u8> {
    let [last, code] = [last & MAX_31, code].map(u32::to_be_bytes);
    frame(kind::GOAWAY, 0, 0, &[last, code].concat())
}

/// A frame with a short payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0);
    [&Head { length, kind, flags, stream }.encode(), payload].concat()
}
