//! The frames of a WebSocket in one direction (RFC 6455, section 5.2): where a frame ends, where a message ends, and
//! whether the side says Close.
//!
//! At most the 14 bytes of a frame header are kept. The payload is counted and not looked at. What RFC 6455 does not
//! allow is a fault: from then on nothing is followed any more.

/// The longest header of a frame: two bytes, eight of the length, four of the mask.
const LONGEST_HEADER: usize = 14;

/// A control frame has no more payload (RFC 6455, section 5.5).
const LONGEST_CONTROL: u64 = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASKED: u8 = 0x80;
const CLOSE: u8 = 0x8;

/// Which side writes the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Side {
    /// Its frames are masked.
    Client,
    /// Its frames are not.
    Server,
}

/// Follows the frames of one side.
#[derive(Clone, Debug)]
pub(in crate::server) struct Frames {
    side: Side,
    /// `permessage-deflate` marks a message that is compressed (RFC 7692, section 6).
    allows_rsv1: bool,
    header: [u8; LONGEST_HEADER],
    header_len: usize,
    payload_left: u64,
    /// A message is open: its last frame has not ended.
    is_fragmented: bool,
    /// The frame of this payload ends a message.
    ends_message: bool,
    closes: bool,
    is_faulty: bool,
}

impl Frames {
    pub(in crate::server) fn new(side: Side, allows_rsv1: bool) -> Self {
        Self {
            side,
            allows_rsv1,
            header: [0; LONGEST_HEADER],
            header_len: 0,
            payload_left: 0,
            is_fragmented: false,
            ends_message: false,
            closes: false,
            is_faulty: false,
        }
    }

    /// Follows the next bytes.
    pub(in crate::server) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_faulty {
            let taken = if self.payload_left > 0 { self.skip_payload(bytes) } else { self.gather_header(bytes) };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Whether no message is open: no frame is under way, and no message waits for its last frame.
    pub(in crate::server) fn is_between_messages(&self) -> bool {
        self.header_len == 0 && self.payload_left == 0 && !self.is_fragmented && !self.is_faulty
    }

    /// How many bytes may pass at least before a message can end; 0 where none is open.
    pub(in crate::server) fn open_len(&self) -> usize {
        match () {
            () if self.is_between_messages() => 0,
            () if self.payload_left > 0 => usize::try_from(self.payload_left).unwrap_or(usize::MAX),
            () => self.wanted_header().saturating_sub(self.header_len).max(1),
        }
    }

    /// Whether the side says Close.
    pub(in crate::server) fn has_closed(&self) -> bool {
        self.closes
    }

    /// Whether something passed that RFC 6455 does not allow.
    pub(in crate::server) fn is_faulty(&self) -> bool {
        self.is_faulty
    }

    fn skip_payload(&mut self, bytes: &[u8]) -> usize {
        let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
        self.payload_left -= skipped as u64;
        if self.payload_left == 0 {
            self.end_frame();
        }
        skipped
    }

    fn gather_header(&mut self, bytes: &[u8]) -> usize {
        let missing = self.wanted_header().saturating_sub(self.header_len);
        let taken = missing.min(bytes.len());
        let (from, to) = (self.header_len, self.header_len + taken);
        match (self.header.get_mut(from..to), bytes.get(..taken)) {
            (Some(space), Some(bytes)) => space.copy_from_slice(bytes),
            _ => self.is_faulty = true,
        }
        self.header_len = to;
        if self.header_len == self.wanted_header() {
            self.end_header();
        }
        taken
    }

    /// How long the header is, as far as its first bytes say; at least two.
    fn wanted_header(&self) -> usize {
        if self.header_len < 2 {
            return 2;
        }
        let length = match self.header[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & MASKED == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn end_header(&mut self) {
        let payload = self.payload_len();
        self.is_faulty = !self.is_allowed(payload);
        let opcode = self.header[0] & 0xF;
        let ends = self.header[0] & FIN != 0;
        let is_control = opcode >= CLOSE;
        self.closes |= opcode == CLOSE;
        if !is_control {
            self.is_fragmented = true;
        }
        self.ends_message = ends && !is_control;
        (self.header_len, self.payload_left) = (0, payload);
        if payload == 0 {
            self.end_frame();
        }
    }

    fn end_frame(&mut self) {
        if self.ends_message {
            self.is_fragmented = false;
        }
    }

    fn payload_len(&self) -> u64 {
        let [_, second, a, b, c, d, e, f, g, h, ..] = self.header;
        match second & !MASKED {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        }
    }

    fn is_allowed(&self, payload: u64) -> bool {
        let [first, second, ..] = self.header;
        let (opcode, ends) = (first & 0xF, first & FIN != 0);
        let is_masked = second & MASKED != 0;
        let has_rsv = first & RSV2_AND_3 != 0 || (first & RSV1 != 0 && !(self.allows_rsv1 && matches!(opcode, 1 | 2)));
        let is_in_order = match opcode {
            0 => self.is_fragmented,
            1 | 2 => !self.is_fragmented,
            0x8..=0xA => ends && payload <= LONGEST_CONTROL,
            _ => false,
        };
        is_in_order && !has_rsv && payload >> 63 == 0 && is_masked == (self.side == Side::Client)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One frame, as the reference has it.
    #[derive(Clone, Debug)]
    struct Frame {
        first: u8,
        payload: usize,
        /// Longer than needed: 16 or 64 bits for any length.
        width: usize,
        mask: bool,
    }

    impl Frame {
        fn bytes(&self) -> Vec<u8> {
            let mask = if self.mask { MASKED } else { 0 };
            let mut bytes = match (self.payload, self.width) {
                (0..=125, 0) => vec![self.first, mask | u8::try_from(self.payload).unwrap()],
                (len @ 0..=65535, 0 | 1) => {
                    [&[self.first, mask | 126][..], &u16::try_from(len).unwrap().to_be_bytes()].concat()
                }
                (len, _) => [&[self.first, mask | 127][..], &(len as u64).to_be_bytes()].concat(),
            };
            if self.mask {
                bytes.extend([1, 2, 3, 4]);
            }
            bytes.extend(vec![0x88; self.payload]);
            bytes
        }
    }

    /// The simple reference: whole frames, one after the other. After each whether a message is open; `None` from a fault on.
    fn reference(frames: &[Frame]) -> Vec<Option<bool>> {
        let mut open = false;
        let mut faulty = false;
        let mut states = Vec::new();
        for frame in frames {
            let (opcode, fin) = (frame.first & 0xF, frame.first & FIN != 0);
            let control = opcode >= 8;
            faulty |= frame.first & 0x70 != 0
                || !frame.mask
                || matches!(opcode, 3..=7 | 0xB..)
                || (control && (!fin || frame.payload > 125))
                || (opcode == 0 && !open)
                || (!control && opcode != 0 && open);
            if !control {
                open = !fin;
            }
            states.push((!faulty).then_some(open));
        }
        states
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let opcode = prop_oneof![8 => 0..3_u8, 4 => 8..11_u8, 1 => 0..16_u8];
        let payload = prop_oneof![4 => 0..20_usize, 2 => 120..130_usize, 1 => 65_530..65_540_usize];
        let rsv = prop_oneof![40 => Just(0_u8), 1 => 1..8_u8];
        (opcode, any::<bool>(), rsv, payload, 0..3_usize, proptest::bool::weighted(0.98)).prop_map(
            |(opcode, fin, rsv, payload, width, mask)| {
                let fin = fin || opcode >= 8 && payload % 7 != 0;
                let payload = if opcode >= 8 && payload > 125 && width > 0 { 125 } else { payload };
                Frame { first: opcode | (u8::from(fin) << 7) | (rsv << 4), payload, width, mask }
            },
        )
    }

    proptest! {
        #[test]
        fn the_end_of_each_message_is_found_however_the_bytes_are_cut(
            frames in proptest::collection::vec(frame(), 1..12),
            cut in 1..70_usize,
        ) {
            let mut observed = Frames::new(Side::Client, false);
            for (number, (frame, expected)) in frames.iter().zip(reference(&frames)).enumerate() {
                let bytes = frame.bytes();
                for (piece, bytes) in bytes.chunks(cut.max(bytes.len() / 50)).enumerate() {
                    prop_assert!(piece == 0 || !observed.is_between_messages(), "in frame {number}");
                    if !observed.is_faulty() && !observed.is_between_messages() {
                        prop_assert!(observed.open_len() > 0);
                    }
                    observed.feed(bytes);
                }
                prop_assert_eq!(observed.is_faulty(), expected.is_none(), "after frame {}", number);
                prop_assert_eq!(observed.is_between_messages(), expected == Some(false), "after frame {}", number);
                let closed = frames[..=number].iter().any(|frame| frame.first & 0xF == CLOSE);
                prop_assert!(expected.is_none() || observed.has_closed() == closed);
            }
        }

        #[test]
        fn who_takes_only_what_is_open_never_goes_past_the_end_of_a_message(
            frames in proptest::collection::vec(frame(), 1..8),
        ) {
            let states = reference(&frames);
            let good = states.iter().take_while(|state| state.is_some()).count();
            let bytes: Vec<Vec<u8>> = frames[..good].iter().map(Frame::bytes).collect();
            let mut ends = Vec::new();
            let mut all = Vec::new();
            for (bytes, state) in bytes.iter().zip(&states) {
                all.extend_from_slice(bytes);
                if *state == Some(false) {
                    ends.push(all.len());
                }
            }
            let (mut observed, mut at) = (Frames::new(Side::Client, false), 0);
            for end in ends {
                observed.feed(&all[at..=at]);
                at += 1;
                while observed.open_len() > 0 {
                    let next = (at + observed.open_len()).min(all.len());
                    observed.feed(&all[at..next]);
                    at = next;
                }
                prop_assert_eq!(at, end);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 1..9_usize, rsv1: bool, server: bool) {
            let side = if server { Side::Server } else { Side::Client };
            let (mut whole, mut pieces) = (Frames::new(side, rsv1), Frames::new(side, rsv1));
            whole.feed(&bytes);
            bytes.chunks(cut).for_each(|bytes| pieces.feed(bytes));
            prop_assert_eq!(whole.is_faulty(), pieces.is_faulty());
            prop_assert_eq!(whole.is_between_messages(), pieces.is_between_messages());
            prop_assert_eq!(whole.open_len(), pieces.open_len());
        }
    }

    #[test]
    fn a_length_with_the_top_bit_is_a_fault_and_the_greatest_without_is_not() {
        for (first, faulty) in [(0x80, true), (0x7f, false)] {
            let mut observed = Frames::new(Side::Client, false);
            observed.feed(&[0x82, 0xff, first, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
            assert_eq!((observed.is_faulty(), observed.is_between_messages()), (faulty, false));
            observed.feed(&[0; 1000]);
            assert!(!observed.is_between_messages());
        }
    }

    #[test]
    fn a_control_frame_between_fragments_ends_no_message() {
        let mut observed = Frames::new(Side::Server, false);
        for (bytes, between) in [
            (&[0x01, 1, b'a'][..], false),
            (&[0x89, 0], false),
            (&[0x00, 0], false),
            (&[0x80, 1, b'b'], true),
            (&[0x89, 0], true),
        ] {
            observed.feed(bytes);
            assert_eq!(observed.is_between_messages(), between, "{bytes:x?}");
        }
        assert!(!observed.has_closed());
        observed.feed(&[0x88]);
        assert!(!observed.has_closed() && !observed.is_between_messages());
        observed.feed(&[2, 3, 0xe8]);
        assert!(observed.has_closed());
    }

    #[test]
    fn only_the_bit_of_an_extension_that_is_followed_is_allowed() {
        for (first, allowed) in [(0xc1, true), (0xc2, true), (0xa1, false), (0xc9, false), (0xc8, false)] {
            let mut observed = Frames::new(Side::Server, true);
            observed.feed(&[first, 0]);
            assert_eq!(observed.is_faulty(), !allowed, "{first:x}");
        }
    }
}
