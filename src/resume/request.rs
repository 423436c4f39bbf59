//! The request of an exchange, as it is sent to the handler again.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING},
    request::Parts,
};

use super::error::NotMovable;

/// The most bytes that the headers of a request may have that is sent again. hyper takes 400 KiB.
const LONGEST: usize = 64 * 1024;

/// The request headers of an exchange that may move. They hold credentials, so they are never logged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RequestHeaders {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for RequestHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestHeaders").field("headers", &self.headers.len()).finish_non_exhaustive()
    }
}

impl RequestHeaders {
    /// The path, without the query, which may hold secrets.
    pub(crate) fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// Copies them, if the request is of a kind that can be sent again: HTTP/1.1 without a body. A body would be taken from what the
    /// client sends next.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub(crate) fn of(parts: &Parts, target: &Uri) -> Result<Self, NotMovable> {
        if parts.version != Version::HTTP_11 {
            return Err(NotMovable::Version);
        }
        if parts.method == Method::CONNECT || parts.method == Method::HEAD {
            return Err(NotMovable::Method);
        }
        let has_body = parts.headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
        if has_body || parts.headers.contains_key(TRANSFER_ENCODING) || parts.headers.contains_key(EXPECT) {
            return Err(NotMovable::RequestBody);
        }
        let copy = Self {
            method: parts.method.as_str().to_owned(),
            target: target.to_string(),
            headers: copied(&parts.headers),
        };
        let is_same = copy.target.parse::<Uri>().is_ok_and(|parsed| parsed == *target);
        if is_same && copy.is_valid() { Ok(copy) } else { Err(NotMovable::RequestHeaders) }
    }

    /// Whether hyper reads the same request from [`to_bytes`](Self::to_bytes), and no other.
    pub(crate) fn is_valid(&self) -> bool {
        let is_text = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte >= 0x80);
        let is_method = Method::from_bytes(self.method.as_bytes()).is_ok_and(|method| method != Method::CONNECT);
        let is_target = is_text(&self.target) && self.target.parse::<Uri>().is_ok();
        let is_header = |(name, value): &(String, Vec<u8>)| {
            HeaderName::from_bytes(name.as_bytes()).is_ok_and(|parsed| !frames_a_body(&parsed, value))
                && HeaderValue::from_bytes(value).is_ok_and(|parsed| is_trimmed(parsed.as_bytes()))
        };
        is_method && is_target && self.len() <= LONGEST && self.headers.iter().all(is_header)
    }

    fn len(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        self.method.len() + self.target.len() + headers + 14
    }

    /// The bytes of the request.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// Whether hyper would read a body for this header, or wait before it does.
fn frames_a_body(name: &HeaderName, value: &[u8]) -> bool {
    *name == TRANSFER_ENCODING || *name == EXPECT || (*name == CONTENT_LENGTH && value != b"0")
}

/// Whether a parser takes nothing off its ends.
fn is_trimmed(value: &[u8]) -> bool {
    value.trim_ascii() == value
}

fn copied(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn copy(request: axum::http::request::Builder) -> Result<RequestHeaders, NotMovable> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let target = parts.uri.clone();
        RequestHeaders::of(&parts, &target)
    }

    #[test]
    fn the_bytes_are_those_of_the_request() {
        let request = Request::get("/a?b=c").header("host", "x").header("accept", "a").header("accept", "b");
        let copy = copy(request).unwrap();
        assert_eq!(copy.to_bytes(), b"GET /a?b=c HTTP/1.1\r\nhost: x\r\naccept: a\r\naccept: b\r\n\r\n");
        assert_eq!(copy.to_bytes().len(), copy.len());
        assert!(!format!("{copy:?}").contains("accept"));
    }

    #[test]
    fn only_a_request_without_a_body_can_be_sent_again() {
        let get = || Request::get("/");
        copy(get().header("content-length", "0")).unwrap();
        for request in [
            get().header("content-length", "1"),
            get().header("content-length", "0").header("content-length", "5"),
            get().header("transfer-encoding", "chunked"),
            get().header("expect", "100-continue"),
        ] {
            assert_eq!(copy(request), Err(NotMovable::RequestBody));
        }
        assert_eq!(copy(get().version(Version::HTTP_10)), Err(NotMovable::Version));
        assert_eq!(copy(get().version(Version::HTTP_2)), Err(NotMovable::Version));
        assert_eq!(copy(Request::head("/")), Err(NotMovable::Method));
        assert_eq!(copy(Request::connect("a:1")), Err(NotMovable::Method));
        let long = vec![b'a'; LONGEST];
        assert_eq!(
            copy(get().header("cookie", HeaderValue::from_bytes(&long).unwrap())),
            Err(NotMovable::RequestHeaders)
        );
    }

    #[test]
    fn headers_that_hold_another_request_are_not_valid() {
        let good = copy(Request::get("/")).unwrap();
        let with = |name: &str, value: &[u8]| RequestHeaders {
            headers: vec![(name.to_owned(), value.to_vec())],
            ..good.clone()
        };
        assert!(good.is_valid() && with("cookie", b"a=b").is_valid() && with("content-length", b"0").is_valid());
        for (name, value) in [
            ("a\r\nb", &b"c"[..]),
            ("", b""),
            ("a", b"b\r\nc: d"),
            ("a", b" b"),
            ("content-length", b"4"),
            ("Transfer-Encoding", b"chunked"),
            ("expect", b"100-continue"),
        ] {
            assert!(!with(name, value).is_valid(), "{name:?}");
        }
        for target in ["", "/ HTTP/1.1\r\nhost: y", "/a b", "/\n"] {
            assert!(!RequestHeaders { target: target.to_owned(), ..good.clone() }.is_valid(), "{target:?}");
        }
        for method in ["", "GET /", "CONNECT"] {
            assert!(!RequestHeaders { method: method.to_owned(), ..good.clone() }.is_valid(), "{method:?}");
        }
    }
}
