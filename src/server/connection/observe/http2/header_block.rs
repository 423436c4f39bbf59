//! Whether a header block uses the table of its compression (HPACK, RFC 7541).
//!
//! Nothing is decoded: the walk knows the lengths of the representations, and their indexes. An entry that is inserted
//! gets the first index of the table, and those that are there get the next one. So an index is that of an entry that was
//! there before exactly if it is not less than the number of entries that were inserted since.

use super::frame::{Head, flag, kind};

/// The first index of the dynamic table (RFC 7541, section 2.3.3).
const DYNAMIC: u32 = 62;

/// A place in a header block that comes in pieces, and what was found so far.
#[derive(Debug)]
pub(super) struct BlockWalk {
    step: Step,
    /// Bytes before the block in its first frame: the length of the padding, and the priority.
    front: u32,
    is_padded: bool,
    /// Bytes of the block in the current frame; padding comes after them.
    left: u32,
    /// Entries that other blocks have inserted before.
    inserted: u32,
    pub(super) found: Found,
}

/// What a header block has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// It sets the size of the table to 0.
    pub(super) emptied: bool,
    /// It sets the size of the table to more than 0.
    pub(super) resized: bool,
    /// It uses an entry that is older than those that were inserted, before it has emptied the table.
    pub(super) used_older: bool,
    /// How many entries it inserts.
    pub(super) inserted: u32,
    /// It is no header block.
    pub(super) malformed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next byte begins a representation.
    Representation,
    /// An integer goes on (RFC 7541, section 5.1).
    Integer { value: u32, shift: u32, of: Of },
    /// The next byte begins the length of a string; so many strings are to come.
    String { strings: u8 },
    /// Bytes of a string.
    Skip { left: u32, strings: u8 },
}

/// What an integer is.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// The index of a whole field.
    Index,
    /// The index of a name, or 0 if the name follows; and whether the field is inserted.
    Name {
        inserts: bool,
    },
    TableSize,
    /// The length of a string; so many strings are to come with it.
    Length {
        strings: u8,
    },
}

impl BlockWalk {
    /// Begins at a block before which so many entries were inserted.
    pub(super) fn new(inserted: u32) -> Self {
        Self { step: Step::Representation, front: 0, is_padded: false, left: 0, inserted, found: Found::default() }
    }

    /// A frame of the block begins.
    pub(super) fn frame(&mut self, head: Head) {
        let is_first = head.kind == kind::HEADERS;
        self.is_padded = is_first && head.has(flag::PADDED);
        let has_priority = is_first && head.has(flag::PRIORITY);
        self.front = u32::from(self.is_padded) + if has_priority { 5 } else { 0 };
        match head.length.checked_sub(self.front) {
            Some(left) => self.left = left,
            None => self.found.malformed = true,
        }
    }

    /// Some of the payload of that frame.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.found.malformed {
                return;
            }
            if self.front > 0 {
                self.front_byte(byte);
                bytes = rest;
            } else if self.left == 0 {
                return;
            } else if let Step::Skip { left, strings } = self.step {
                bytes = self.skip(bytes, left, strings);
            } else {
                self.left -= 1;
                self.byte(byte);
                bytes = rest;
            }
        }
    }

    fn front_byte(&mut self, byte: u8) {
        self.front -= 1;
        if std::mem::take(&mut self.is_padded) {
            match self.left.checked_sub(u32::from(byte)) {
                Some(left) => self.left = left,
                None => self.found.malformed = true,
            }
        }
    }

    /// Passes over a string as far as it is there.
    fn skip<'a>(&mut self, bytes: &'a [u8], left: u32, strings: u8) -> &'a [u8] {
        let here = left.min(self.left).min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.left -= here;
        self.step = if here < left {
            Step::Skip { left: left - here, strings }
        } else if strings > 0 {
            Step::String { strings }
        } else {
            Step::Representation
        };
        bytes.get(usize::try_from(here).unwrap_or(usize::MAX)..).unwrap_or_default()
    }

    fn byte(&mut self, byte: u8) {
        match self.step {
            Step::Representation => self.representation(byte),
            Step::Integer { value, shift, of } => self.integer(byte, value, shift, of),
            Step::String { strings } => self.prefix(byte, 7, Of::Length { strings: strings.saturating_sub(1) }),
            Step::Skip { .. } => {}
        }
    }

    /// RFC 7541, section 6.
    fn representation(&mut self, byte: u8) {
        match byte {
            0x80.. => self.prefix(byte, 7, Of::Index),
            0x40.. => self.prefix(byte, 6, Of::Name { inserts: true }),
            0x20.. => self.prefix(byte, 5, Of::TableSize),
            _ => self.prefix(byte, 4, Of::Name { inserts: false }),
        }
    }

    fn prefix(&mut self, byte: u8, bits: u32, of: Of) {
        let most = (1 << bits) - 1;
        let value = u32::from(byte) & most;
        if value == most { self.step = Step::Integer { value, shift: 0, of } } else { self.value(value, of) }
    }

    fn integer(&mut self, byte: u8, value: u32, shift: u32, of: Of) {
        let more = u32::from(byte & 0x7f).checked_shl(shift).filter(|_| shift < 28);
        let Some(value) = more.and_then(|more| value.checked_add(more)) else {
            self.found.malformed = true;
            return;
        };
        if byte & 0x80 == 0 { self.value(value, of) } else { self.step = Step::Integer { value, shift: shift + 7, of } }
    }

    fn index(&mut self, index: u32) {
        let inserted = self.inserted.saturating_add(self.found.inserted);
        self.found.used_older |= !self.found.emptied && index >= DYNAMIC.saturating_add(inserted);
    }

    fn value(&mut self, value: u32, of: Of) {
        self.step = match of {
            Of::Name { inserts } => {
                self.index(value);
                self.found.inserted = self.found.inserted.saturating_add(u32::from(inserts));
                Step::String { strings: if value == 0 { 2 } else { 1 } }
            }
            Of::Index => {
                self.index(value);
                Step::Representation
            }
            Of::TableSize => {
                self.found.emptied |= value == 0;
                self.found.resized |= value > 0;
                Step::Representation
            }
            Of::Length { strings } if value == 0 && strings > 0 => Step::String { strings },
            Of::Length { .. } if value == 0 => Step::Representation,
            Of::Length { strings } => Step::Skip { left: value, strings },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a block, however it is cut.
    fn found(block: &[u8]) -> Found {
        let head = Head { length: u32::try_from(block.len()).unwrap(), kind: kind::HEADERS, flags: 0, stream: 1 };
        walked(head, block)
    }

    fn walked(head: Head, payload: &[u8]) -> Found {
        let all = (0..=payload.len()).map(|cut| {
            let mut walk = BlockWalk::new(0);
            walk.frame(head);
            walk.feed(&payload[..cut]);
            walk.feed(&payload[cut..]);
            walk.found
        });
        let mut all: Vec<_> = all.collect();
        all.dedup();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }

    #[test]
    fn an_index_of_the_dynamic_table_is_found_wherever_it_stands() {
        let used = Found { used_older: true, ..Found::default() };
        let inserted = Found { inserted: 1, ..Found::default() };
        assert_eq!(found(&[0x82, 0x86, 0x84]), Found::default());
        assert_eq!(found(&[0x82, 0xbd]), Found::default(), "61 is in the static table");
        assert_eq!(found(&[0x82, 0xbe]), used);
        // A name of 3 bytes and a value of 2, and a name of the dynamic table.
        assert_eq!(found(&[0x40, 3, b'a', b'b', 0xbe, 2, 0xbe, 0xff]), inserted);
        assert_eq!(found(&[0x00, 1, b'a', 0, 0x7e, 1, b'x']), Found { inserted: 1, ..used });
        assert_eq!(found(&[0x10, 1, b'a', 0]), Found::default());
        assert_eq!(found(&[0x0f, 47, 1, b'x']), used, "15 + 47");
        assert_eq!(found(&[0x0f, 46, 1, b'x']), Found::default());
        assert_eq!(found(&[0xff, 0x80, 0x01]), used);
        assert_eq!(found(&[0x40, 1, b'a', 0, 0xbe]), inserted, "it was inserted just now");
        assert_eq!(found(&[0x40, 1, b'a', 0, 0xbf]), Found { inserted: 1, ..used });
        assert_eq!(found(&[0x7e, 0]), Found { inserted: 1, ..used }, "its name is older than itself");
    }

    #[test]
    fn sizes_of_the_table_are_found() {
        assert_eq!(found(&[0x20, 0x82]), Found { emptied: true, ..Found::default() });
        assert_eq!(found(&[0x3f, 0xe1, 0x1f, 0x82]), Found { resized: true, ..Found::default() });
        let both = Found { emptied: true, resized: true, ..Found::default() };
        assert_eq!(found(&[0x20, 0x3f, 0xe1, 0x1f, 0x82]), both);
    }

    #[test]
    fn padding_and_priority_are_no_part_of_the_block() {
        let flags = flag::PADDED | flag::PRIORITY;
        let payload = [2, 0xbe, 0xbe, 0xbe, 0xbe, 0xbe, 0x82, 0xbe, 0xbe];
        let head = Head { length: 9, kind: kind::HEADERS, flags, stream: 1 };
        assert_eq!(walked(head, &payload), Found::default());
        let malformed = Found { malformed: true, ..Found::default() };
        assert_eq!(walked(Head { length: 5, ..head }, &payload[..5]), malformed);
        assert_eq!(walked(head, &[9, 0, 0, 0, 0, 0, 0, 0, 0]), malformed);
    }

    #[test]
    fn an_integer_without_end_is_malformed() {
        assert!(found(&[0xff; 12]).malformed);
        assert!(found(&[0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]).malformed);
    }

    #[test]
    fn a_block_goes_on_in_the_next_frame() {
        let head = Head { length: 2, kind: kind::HEADERS, flags: 0, stream: 1 };
        let mut walk = BlockWalk::new(0);
        walk.frame(head);
        walk.feed(&[0x40, 3]);
        walk.frame(Head { length: 5, kind: kind::CONTINUATION, flags: flag::PADDED, stream: 1 });
        walk.feed(&[0xbe, 0xbe, 0xbe, 1, 0xbe]);
        assert_eq!(walk.found, Found { inserted: 1, ..Found::default() });
        walk.frame(Head { length: 1, kind: kind::CONTINUATION, flags: 4, stream: 1 });
        walk.feed(&[0xbf]);
        assert!(walk.found.used_older);
    }
}
