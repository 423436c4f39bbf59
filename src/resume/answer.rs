//! What of an answer decides how the bytes after it are read: it is the same in every process.

use std::fmt;

use axum::http::{
    HeaderMap, HeaderName, Response, StatusCode, Version,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_PROTOCOL, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};
use http_body::Body;

use super::error::NotMovable;

/// The headers that must be the same in the answer of the resumed handler.
const SAME: [HeaderName; 7] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    TRANSFER_ENCODING,
    UPGRADE,
    SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_EXTENSIONS,
];

/// An answer that has no end of its own.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// Without its headers, which may hold what only the client may know.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    /// The answer, if it is of a kind that can move: a switch of protocols, or a body in chunks.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub(crate) fn of<B: Body>(response: &Response<B>) -> Result<Self, NotMovable> {
        let answer = Self { status: response.status().as_u16(), headers: decisive(response.headers()) };
        if !answer.is_upgrade() {
            check_stream(response)?;
        }
        Ok(answer)
    }

    /// Whether another protocol follows.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
    }

    /// Whether that protocol is WebSocket (RFC 6455).
    pub(crate) fn is_websocket(&self) -> bool {
        self.is_upgrade() && self.value("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(b"websocket"))
    }

    /// The first value of a header.
    pub(crate) fn value(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }
}

fn decisive(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let values = |name: &HeaderName| {
        let name = name.clone();
        headers
            .get_all(&name)
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect::<Vec<_>>()
            .into_iter()
            .map(move |value| (name.as_str().to_owned(), value))
    };
    SAME.iter().flat_map(values).collect()
}

/// hyper sends chunks if nothing says how long the body is. A response of HTTP/1.0, or one that may have no body, has none.
fn check_stream<B: Body>(response: &Response<B>) -> Result<(), NotMovable> {
    let (headers, status) = (response.headers(), response.status());
    let may_have_body = !status.is_informational() && !matches!(status.as_u16(), 204 | 205 | 304);
    let has_end = response.body().is_end_stream() || response.body().size_hint().exact().is_some();
    match () {
        () if headers.contains_key(CONTENT_ENCODING) => Err(NotMovable::ContentEncoding),
        () if headers.contains_key(TRAILER) => Err(NotMovable::Trailers),
        () if response.version() != Version::HTTP_11 || !may_have_body || has_end => Err(NotMovable::NoStream),
        () if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) => {
            Err(NotMovable::NoStream)
        }
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    fn stream() -> Body {
        Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>())
    }

    #[test]
    fn an_upgrade_and_a_body_in_chunks_can_move() {
        let upgrade = Response::builder().status(101).header("upgrade", "WebSocket").header("date", "now");
        let answer = Answer::of(&upgrade.body(Body::empty()).unwrap()).unwrap();
        assert!(answer.is_upgrade() && answer.is_websocket());
        assert_eq!(answer.headers, [("upgrade".to_owned(), b"WebSocket".to_vec())]);
        let stream = Response::builder().header("content-type", "text/event-stream").body(stream()).unwrap();
        let answer = Answer::of(&stream).unwrap();
        assert!(!answer.is_upgrade() && answer.value("content-type") == Some(b"text/event-stream"));
    }

    #[test]
    fn no_other_body_can_move() {
        let new = Response::builder;
        let why =
            |response: axum::http::response::Builder, body| Answer::of(&response.body(body).unwrap()).unwrap_err();
        assert_eq!(why(new(), Body::from("text")), NotMovable::NoStream);
        assert_eq!(why(new(), Body::empty()), NotMovable::NoStream);
        assert_eq!(why(new().status(204), stream()), NotMovable::NoStream);
        assert_eq!(why(new().version(Version::HTTP_10), stream()), NotMovable::NoStream);
        assert_eq!(why(new().header("content-length", "7"), stream()), NotMovable::NoStream);
        assert_eq!(why(new().header("transfer-encoding", "gzip, chunked"), stream()), NotMovable::NoStream);
        assert_eq!(why(new().header("content-encoding", "gzip"), stream()), NotMovable::ContentEncoding);
        assert_eq!(why(new().header("trailer", "x-end"), stream()), NotMovable::Trailers);
    }
}
