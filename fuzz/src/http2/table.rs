//! The table of header compression (RFC 7541), with fields whose name is `x`.

use std::collections::VecDeque;

/// What a table has at most.
const MOST: usize = 4096;

/// The first index of the table.
pub(super) const DYNAMIC: usize = 62;

/// The table of one side, for one direction.
#[derive(Debug)]
pub(super) struct Table {
    values: VecDeque<Vec<u8>>,
    limit: usize,
    /// Changes of its size that are still to be said to the decoder.
    changes: Vec<usize>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { values: VecDeque::new(), limit: MOST, changes: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The peer allows so much.
    pub(super) fn allow(&mut self, limit: usize) {
        self.resize(limit.min(MOST));
        self.changes.push(self.limit);
    }

    fn resize(&mut self, limit: usize) {
        self.limit = limit;
        while self.size() > self.limit {
            self.values.pop_back();
        }
    }

    fn size(&self) -> usize {
        self.values.iter().map(|value| 33 + value.len()).sum()
    }

    fn insert(&mut self, value: &[u8]) {
        self.values.push_front(value.to_vec());
        self.resize(self.limit);
    }

    /// The least of the sizes since the last block and the last one (RFC 7541, section 4.2).
    pub(super) fn encode_sizes(&mut self) -> Vec<u8> {
        let changes = std::mem::take(&mut self.changes);
        let (Some(least), Some(last)) = (changes.iter().min(), changes.last()) else { return Vec::new() };
        let mut block = integer(0x20, 5, *least);
        if last != least {
            block.extend(integer(0x20, 5, *last));
        }
        block
    }

    pub(super) fn encode(&mut self, value: &[u8], inserts: bool) -> Vec<u8> {
        let mut block = vec![if inserts { 0x40 } else { 0 }, 1, b'x'];
        block.extend(integer(0, 7, value.len()));
        block.extend_from_slice(value);
        if inserts {
            self.insert(value);
        }
        block
    }

    /// The entry `number` from the newest, which must be there.
    pub(super) fn encode_entry(&self, number: usize) -> (Vec<u8>, Vec<u8>) {
        (integer(0x80, 7, DYNAMIC + number), self.values[number].clone())
    }

    /// The values of a block, each with `|` behind it.
    pub(super) fn decode(&mut self, mut block: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        while let Some(&first) = block.first() {
            let value = match first {
                0x80.. => {
                    let index = take_integer(&mut block, 7);
                    let value = self.values.get(index.checked_sub(DYNAMIC).expect("it is dynamic"));
                    value.unwrap_or_else(|| panic!("COMPRESSION_ERROR: {index} is not in the table")).clone()
                }
                0x20..0x40 => {
                    let limit = take_integer(&mut block, 5);
                    assert!(limit <= MOST, "COMPRESSION_ERROR: a table of {limit}");
                    self.resize(limit);
                    continue;
                }
                _ => {
                    block = &block[3..];
                    let length = take_integer(&mut block, 7);
                    let (value, rest) = block.split_at(length);
                    block = rest;
                    if first == 0x40 {
                        self.insert(value);
                    }
                    value.to_vec()
                }
            };
            text.extend(value);
            text.push(b'|');
        }
        text
    }
}

fn integer(first: u8, bits: u32, mut value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![first | u8::try_from(value).expect("it fits")];
    }
    let mut bytes = vec![first | u8::try_from(most).expect("it fits")];
    value -= most;
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).expect("it fits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("it fits"));
    bytes
}

fn take_integer(bytes: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let mut value = usize::from(bytes[0]) & most;
    *bytes = &bytes[1..];
    if value == most {
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    value
}
