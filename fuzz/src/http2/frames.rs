//! Frames as bytes.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const FIRST_WINDOW: i64 = 65_535;

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn length(&self) -> i64 {
        i64::try_from(self.payload.len()).expect("it is short")
    }

    /// A number of 32 bits at the beginning.
    pub(super) fn number(&self) -> u32 {
        u32::from_be_bytes(*self.payload.first_chunk().expect("it has a number"))
    }

    pub(super) fn settings(&self) -> Vec<(u16, u32)> {
        assert_eq!(self.payload.len() % 6, 0);
        let pair = |pair: &[u8]| {
            (u16::from_be_bytes([pair[0], pair[1]]), u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
        };
        self.payload.chunks(6).map(pair).collect()
    }

    /// Without padding.
    pub(super) fn content(&self) -> &[u8] {
        if !self.has(PADDED) {
            return &self.payload;
        }
        &self.payload[1..self.payload.len() - usize::from(self.payload[0])]
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(super) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let pairs = values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &pairs.collect::<Vec<_>>())
}

pub(super) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// Takes a whole frame off `bytes`.
pub(super) fn next(bytes: &mut Vec<u8>) -> Option<Frame> {
    let head: [u8; 9] = *bytes.first_chunk()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    if bytes.len() < 9 + length {
        return None;
    }
    let payload = bytes[9..9 + length].to_vec();
    bytes.drain(..9 + length);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], flags: head[4], stream, payload })
}
