//! A packet of the handoff, as the other process has sent it.
//!
//! - A message that was decoded encodes as one that decodes to the same message, in the newest version and in version 1.
//! - What a later version adds at the end changes nothing.
//! - A text of the other process has no control characters.
//! - A packet takes no more memory than its length allows.

#![no_main]

use axum_activation::fuzzing::{LONGEST_PACKET, packet, packet_v1, texts};
use axum_activation_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

/// The smallest record has 7 bytes and takes 200 in memory, in a vector that is copied into one of twice the size as it grows.
const FACTOR: usize = 128;

fuzz_target!(|data: &[u8]| {
    let Ok(Some(encoded)) = bounded(4096 + FACTOR * data.len(), || packet(data)) else { return };
    assert!(encoded.len() <= LONGEST_PACKET);
    assert_eq!(packet(&encoded), Ok(Some(encoded.clone())), "it does not read back as it was");
    let longer = [data, b"\xff more"].concat();
    assert_eq!(packet(&longer), Ok(Some(encoded)), "what was added at the end was read");
    if let Some(old) = packet_v1(data) {
        assert_eq!(packet_v1(&old).as_deref(), Some(&*old), "version 1 does not read back as it was");
        assert!(packet(&old).is_ok_and(|read| read.is_some()));
    }
    for text in texts(data) {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
});
