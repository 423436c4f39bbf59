//! The first bytes of a client.
//!
//! - However they are cut, they are found to be the same protocol.
//! - It is decided as early as it can be, and more bytes change nothing.
//! - Exactly what begins with the preface is HTTP/2, and what begins with a handshake of TLS is TLS.

#![no_main]

use axum_activation::fuzzing::{Detected, detect};
use axum_activation_fuzz::{Input, parts};
use libfuzzer_sys::fuzz_target;

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 8446, section 5.1.
const TLS_HANDSHAKE: u8 = 22;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let cuts = input.chunk();
    let bytes = input.0;
    let expected = match () {
        () if bytes.starts_with(PREFACE) => Some(Detected::Http2),
        () if PREFACE.starts_with(bytes) => None,
        () if bytes[0] == TLS_HANDSHAKE => Some(Detected::Tls),
        () => Some(Detected::Http1),
    };
    assert_eq!(detect(bytes), expected);
    let (mut seen, mut decided) = (Vec::new(), None);
    for part in parts(bytes, cuts) {
        seen.extend_from_slice(part);
        let now = detect(&seen);
        assert!(decided.is_none() || now == decided, "it was {decided:?} and is {now:?}");
        decided = now;
    }
    assert_eq!(decided, expected);
});
