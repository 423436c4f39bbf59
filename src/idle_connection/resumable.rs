//! What the next process must know of an HTTP/1 exchange without an end of its own, which a handler there resumes.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};

/// The most headers of the request, and of its answer. hyper takes 100 of a request.
const MOST_HEADERS: usize = 256;

/// The request, what its answer was, and the state that the handler leaves to the next process.
///
/// It holds credentials of the client, so it is never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResumableRecord {
    /// The method, the target and the headers of the request.
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// The status and those headers of the answer that decide how the following bytes are read.
    pub(crate) status: u16,
    pub(crate) answer: Vec<(String, Vec<u8>)>,
    /// What the handler leaves, and the version of that.
    pub(crate) state: Vec<u8>,
    pub(crate) state_version: u32,
}

impl ResumableRecord {
    /// Whether there can be such an exchange. The record comes from another process, and what is no header to hyper would be another
    /// request to what reads it next.
    ///
    /// # Errors
    ///
    /// What there cannot be. The text has nothing of the request.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { method, target, headers, status, answer, state: _, state_version: _ } = self;
        let is_request = Method::from_bytes(method.as_bytes()).is_ok() && target.parse::<Uri>().is_ok();
        if !is_request {
            return Err("its method or its target cannot be in a request".to_owned());
        }
        if StatusCode::from_u16(*status).is_err() {
            return Err(format!("its status is {status}"));
        }
        check_headers(headers).map_err(|problem| format!("its request has {problem}"))?;
        check_headers(answer).map_err(|problem| format!("its answer has {problem}"))
    }
}

impl std::fmt::Debug for ResumableRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumableRecord").field("status", &self.status).finish_non_exhaustive()
    }
}

fn check_headers(headers: &[(String, Vec<u8>)]) -> Result<(), String> {
    if headers.len() > MOST_HEADERS {
        return Err(format!("{} headers, the most is {MOST_HEADERS}", headers.len()));
    }
    let is_header = |(name, value): &(String, Vec<u8>)| {
        HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_bytes(value).is_ok()
    };
    if headers.iter().all(is_header) { Ok(()) } else { Err("what is no header".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ResumableRecord {
        ResumableRecord {
            method: "GET".to_owned(),
            target: "/chat?room=1".to_owned(),
            headers: vec![("host".to_owned(), b"a".to_vec()), ("cookie".to_owned(), b"secret".to_vec())],
            status: 101,
            answer: vec![("upgrade".to_owned(), b"websocket".to_vec())],
            state: vec![0; 5],
            state_version: 1,
        }
    }

    #[test]
    fn what_can_be_is_let_through() {
        record().check().unwrap();
        for target in ["*", "http://a/b", "/"] {
            ResumableRecord { target: target.to_owned(), ..record() }.check().unwrap();
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason_that_has_nothing_of_the_request() {
        let text = str::to_owned;
        let header = |name: &str, value: &str| vec![(text(name), value.as_bytes().to_vec())];
        for (record, says) in [
            (ResumableRecord { method: text("GET /"), ..record() }, "method or its target"),
            (ResumableRecord { method: text(""), ..record() }, "method or its target"),
            (ResumableRecord { target: text("/ HTTP/1.1\r\nsecret: 1"), ..record() }, "method or its target"),
            (ResumableRecord { target: text(""), ..record() }, "method or its target"),
            (ResumableRecord { status: 99, ..record() }, "its status is 99"),
            (ResumableRecord { headers: header("se cret", ""), ..record() }, "its request has what is no header"),
            (
                ResumableRecord { headers: header("a", "secret\r\nb: c"), ..record() },
                "its request has what is no header",
            ),
            (ResumableRecord { answer: header("", "secret"), ..record() }, "its answer has what is no header"),
            (
                ResumableRecord { headers: vec![(text("a"), Vec::new()); 257], ..record() },
                "its request has 257 headers",
            ),
        ] {
            let problem = record.check().unwrap_err();
            assert!(problem.contains(says) && !problem.contains("secret"), "{says}: {problem}");
        }
    }
}
