//! The walk over a header block of HTTP/2, in frames with padding and priority.
//!
//! - However the payloads are cut, the same is found.
//! - A plain decoder of RFC 7541 finds the same in a block that it can read.

#![no_main]

use axum_activation::fuzzing::header_block;
use axum_activation_fuzz::{Input, parts};
use libfuzzer_sys::fuzz_target;

const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// Whether the size of the table is set to 0 and to more, whether an older entry is used, how many are inserted, and whether it is no block.
type Found = (bool, bool, bool, u32, bool);

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (inserted, cuts) = (u32::from(input.byte()), input.chunk());
    let frames = frames(&mut input);
    let found = |cuts: &[u8]| {
        let frames: Vec<_> = frames.iter().map(|(head, payload, _)| (*head, parts(payload, cuts))).collect();
        header_block(inserted, &frames)
    };
    let whole = found(&[]);
    assert_eq!(found(cuts), whole);
    let block: Option<Vec<_>> = frames.iter().map(|(_, _, fragment)| fragment.clone()).collect();
    if let Some(expected) = block.and_then(|block| reference(inserted, &block.concat())) {
        assert_eq!(whole, expected, "{frames:?}");
    }
});

/// Frames as header and payload, and what each has of the block; `None` if it is malformed.
fn frames(input: &mut Input<'_>) -> Vec<([u8; 9], Vec<u8>, Option<Vec<u8>>)> {
    let mut frames = Vec::new();
    let count = 1 + input.up_to(3);
    for number in 0..count {
        let (flags, padding) = (input.byte() & (PADDED | PRIORITY), input.byte());
        let fragment = if number + 1 == count { input.0 } else { input.chunk() };
        let (kind, mut payload) = (if number == 0 { 1 } else { 9 }, Vec::new());
        let (is_padded, has_priority) = (kind == 1 && flags & PADDED != 0, kind == 1 && flags & PRIORITY != 0);
        payload.extend(is_padded.then_some(padding));
        payload.extend(has_priority.then_some([0; 5]).into_iter().flatten());
        payload.extend_from_slice(fragment);
        // Of short fragments the padding is a part, so that it may be longer than they are.
        let takes = is_padded && fragment.len() % 2 == 0;
        if is_padded && !takes {
            payload.extend(vec![0xbe; usize::from(padding)]);
        }
        let end = if takes { fragment.len().checked_sub(usize::from(padding)) } else { Some(fragment.len()) };
        let [_, a, b, c] = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
        frames.push(([a, b, c, kind, flags, 0, 0, 0, 1], payload, end.map(|end| fragment[..end].to_vec())));
    }
    frames
}

/// `None` for what is no block, or none that ends where the frames end.
fn reference(before: u32, mut block: &[u8]) -> Option<Found> {
    let (mut emptied, mut resized, mut older, mut inserted) = (false, false, false, 0);
    while let Some(&first) = block.first() {
        let (bits, strings, inserts) = match first {
            0x80.. => (7, 0, false),
            0x40.. => (6, 1, true),
            0x20.. => (5, 0, false),
            _ => (4, 1, false),
        };
        let value = integer(&mut block, bits)?;
        if (0x20..0x40).contains(&first) {
            emptied |= value == 0;
            resized |= value > 0;
            continue;
        }
        older |= !emptied && value >= u64::from(62 + before + inserted);
        inserted += u32::from(inserts);
        for _ in 0..if strings > 0 && value == 0 { 2 } else { strings } {
            let length = usize::try_from(integer(&mut block, 7)?).ok()?;
            block = block.get(length..)?;
        }
    }
    Some((emptied, resized, older, inserted, false))
}

/// RFC 7541, section 5.1, up to four bytes that go on.
fn integer(bytes: &mut &[u8], bits: u32) -> Option<u64> {
    let most = (1_u64 << bits) - 1;
    let (first, mut rest) = bytes.split_first()?;
    let mut value = u64::from(*first) & most;
    if value == most {
        for shift in [0, 7, 14, 21] {
            let (next, after) = rest.split_first()?;
            rest = after;
            value += u64::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                *bytes = rest;
                return Some(value);
            }
        }
        return None;
    }
    *bytes = rest;
    Some(value)
}
