//! HTTP/1 or HTTP/2: found by the first bytes, which are kept.
//!
//! A client with prior knowledge of HTTP/2 begins with a preface that no HTTP/1 request begins with (RFC 9113, section
//! 3.4). The first byte that differs decides. A client that sends a part of the preface and waits is bounded by the
//! header timeout, like every other one.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::io::Io;

/// What a client with prior knowledge of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS handshake (RFC 8446, section 5.1). No request begins with it, and hyper would answer in clear.
const TLS: u8 = 22;

/// Most requests fit, so that one read brings a whole head.
const FIRST_READ: usize = 1024;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detected {
    Http1,
    Http2,
    /// TLS, where HTTP in clear is spoken.
    Tls,
    /// The client closed before its first byte.
    Nothing,
}

/// Reads until the protocol is known.
///
/// Cancel safe: what has been read so far stands in `first`.
pub(super) async fn protocol(io: &mut Io, first: &mut Vec<u8>) -> io::Result<Detected> {
    loop {
        if let Some(protocol) = tell(first) {
            return Ok(protocol);
        }
        if poll_fn(|cx| poll_first(io, first, cx)).await? == 0 {
            // Half a head and then the end: hyper has the right answer to that.
            return Ok(if first.is_empty() { Detected::Nothing } else { Detected::Http1 });
        }
    }
}

/// Appends what one read brings, and says how much. The buffer is on the stack, so a connection that waits holds none.
pub(super) fn poll_first(io: &mut Io, first: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut space = [0; FIRST_READ];
    let mut buf = ReadBuf::new(&mut space);
    ready!(Pin::new(io).poll_read(cx, &mut buf))?;
    first.extend_from_slice(buf.filled());
    Poll::Ready(Ok(buf.filled().len()))
}

/// The protocol, once the bytes decide it.
pub(super) fn tell(first: &[u8]) -> Option<Detected> {
    let seen = first.len().min(PREFACE.len());
    if first.is_empty() {
        None
    } else if first[0] == TLS {
        Some(Detected::Tls)
    } else if first[..seen] != PREFACE[..seen] {
        Some(Detected::Http1)
    } else {
        (seen == PREFACE.len()).then_some(Detected::Http2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_preface_is_http2() {
        assert_eq!(tell(b""), None);
        for length in 1..PREFACE.len() {
            assert_eq!(tell(&PREFACE[..length]), None);
            let mut other = PREFACE[..length].to_vec();
            other.push(b'x');
            assert_eq!(tell(&other), Some(Detected::Http1));
        }
        assert_eq!(tell(PREFACE), Some(Detected::Http2));
        assert_eq!(tell(&[PREFACE, b"more"].concat()), Some(Detected::Http2));
        assert_eq!(tell(b"GET / HTTP/1.1\r\n"), Some(Detected::Http1));
        assert_eq!(tell(b"\x16\x03\x01"), Some(Detected::Tls));
        assert_eq!(tell(b"P"), None);
        assert_eq!(tell(b"PO"), Some(Detected::Http1));
    }
}
