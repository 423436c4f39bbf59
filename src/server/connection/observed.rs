//! What is followed of an upgraded stream, and noted in its exchange: whether the handler has read all that came, and
//! whether a message is open in either direction.

use std::sync::Arc;

use super::observe::websocket::{Frames, Side};
use crate::resume::{Answer, Exchange, NotMovable};

/// An upgraded stream whose handler may leave it.
#[derive(Debug)]
pub(super) struct Observed {
    exchange: Arc<Exchange>,
    /// `None` for a protocol that only the handler knows.
    frames: Option<Box<Both>>,
}

#[derive(Debug)]
struct Both {
    client: Frames,
    server: Frames,
}

impl Observed {
    pub(super) fn new(answer: &Answer, exchange: Arc<Exchange>) -> Self {
        let frames = answer.is_websocket().then(|| {
            let extension = Extension::of(answer);
            if extension == Extension::Other {
                exchange.note_not_movable(NotMovable::Extension);
            }
            let deflates = extension == Extension::DeflateWithoutContext;
            Box::new(Both { client: Frames::new(Side::Client, deflates), server: Frames::new(Side::Server, deflates) })
        });
        Self { exchange, frames }
    }

    /// How many bytes may be delivered at most; `None` for any number.
    pub(super) fn limit(&self) -> Option<usize> {
        let frames = self.frames.as_ref()?;
        self.exchange.is_gated().then(|| frames.client.open_len())
    }

    pub(super) fn note_waits(&self) {
        self.exchange.note_waits();
    }

    pub(super) fn note_delivered(&mut self, bytes: &[u8]) {
        let message_open = self.frames.as_mut().is_some_and(|frames| {
            frames.client.feed(bytes);
            !frames.client.is_between_messages()
        });
        self.exchange.note_delivered(message_open);
        self.note_end();
    }

    pub(super) fn note_written(&mut self, bytes: &[u8]) {
        let Some(frames) = &mut self.frames else { return };
        frames.server.feed(bytes);
        self.exchange.note_written(!frames.server.is_between_messages());
        self.note_end();
    }

    fn note_end(&self) {
        let Some(Both { client, server }) = self.frames.as_deref() else { return };
        if client.is_faulty() || server.is_faulty() {
            self.exchange.note_not_movable(NotMovable::Frames);
        } else if client.has_closed() || server.has_closed() {
            self.exchange.note_not_movable(NotMovable::Closing);
        }
    }
}

/// What the two sides have agreed upon beside RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    None,
    /// `permessage-deflate` where each message is compressed by itself (RFC 7692, section 7.1.1).
    DeflateWithoutContext,
    Other,
}

impl Extension {
    fn of(answer: &Answer) -> Self {
        let Some(value) = answer.value("sec-websocket-extensions") else { return Self::None };
        let several = answer.headers.iter().filter(|(name, _)| name == "sec-websocket-extensions").count() > 1;
        let text = std::str::from_utf8(value).unwrap_or_default();
        let mut parts = text.split(';').map(str::trim);
        let is_deflate = parts.next() == Some("permessage-deflate");
        let parts: Vec<_> = parts.collect();
        let has = |wanted: &str| parts.contains(&wanted);
        let is_without = has("server_no_context_takeover") && has("client_no_context_takeover");
        if is_deflate && is_without && !several && !text.contains(',') {
            Self::DeflateWithoutContext
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_compression_that_keeps_nothing_between_messages_is_followed() {
        let of = |values: &[&str]| {
            let headers =
                values.iter().map(|value| ("sec-websocket-extensions".to_owned(), value.as_bytes().to_vec())).collect();
            Extension::of(&Answer { status: 101, headers })
        };
        assert_eq!(of(&[]), Extension::None);
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(of(&[both]), Extension::DeflateWithoutContext);
        assert_eq!(of(&[&format!("{both};server_max_window_bits=10")]), Extension::DeflateWithoutContext);
        for other in [
            &["permessage-deflate"][..],
            &["permessage-deflate; server_no_context_takeover"],
            &["permessage-deflate; client_no_context_takeover"],
            &[&format!("{both}, x-other")],
            &[both, "x-other"],
            &["x-other; server_no_context_takeover; client_no_context_takeover"],
            &[""],
        ] {
            assert_eq!(of(other), Extension::Other, "{other:?}");
        }
    }
}
