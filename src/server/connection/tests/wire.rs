//! The bytes: what a script sends, and what comes back.

use std::fmt;

use super::script::{Expects, Request, Script, Tail, Upgrade, Upload, Version};

/// So many chunks have extensions; more of them than hyper takes from one body.
const EXTENDED: usize = 50;

/// And the empty SETTINGS frame that follows.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// All that a client sends.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    /// Where the client waits, and for the answer to which request, interim or not.
    pub(super) gates: Vec<(usize, usize)>,
}

/// One response.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Sent {
    pub(super) fn by(script: &Script) -> Self {
        let mut sent = Self::default();
        for (number, request) in script.requests.iter().enumerate() {
            sent.request(number, request);
        }
        sent.tail(script);
        sent
    }

    fn request(&mut self, number: usize, request: &Request) {
        self.bytes.extend("\r\n".repeat(request.empty_lines).bytes());
        self.bytes.extend(head(number, request).into_bytes());
        let Some(upload) = &request.body else { return };
        if request.expects == Expects::Patiently {
            self.gates.push((self.bytes.len(), number));
        }
        let body = upload.filling.bytes(number, upload.len);
        match &upload.chunks {
            None => self.bytes.extend(body),
            Some(sizes) => self.chunks(&body, sizes, upload),
        }
    }

    fn chunks(&mut self, mut body: &[u8], sizes: &[usize], upload: &Upload) {
        let extension = |chunk: usize| if upload.extensions && chunk < EXTENDED { ";a=b;c=\"d; 0\"" } else { "" };
        for (chunk, size) in sizes.iter().cycle().enumerate() {
            if body.is_empty() {
                break;
            }
            let (data, rest) = body.split_at(body.len().min(*size));
            self.bytes.extend(format!("{:x}{}\r\n", data.len(), extension(chunk)).into_bytes());
            self.bytes.extend(data);
            self.bytes.extend(b"\r\n");
            body = rest;
        }
        let trailer = if upload.trailers { "x-end: GET /smuggled/trailer HTTP/1.1\r\n" } else { "" };
        self.bytes.extend(format!("0{}\r\n{trailer}\r\n", extension(0)).into_bytes());
    }

    fn tail(&mut self, script: &Script) {
        let number = script.requests.len();
        match &script.tail {
            Tail::Nothing | Tail::Stop | Tail::HalfClose => {}
            Tail::Garbage => self.bytes.extend(b"\x01\x02 garbage\r\n\r\n"),
            Tail::Preface { patient } => {
                if *patient {
                    self.gates.push((self.bytes.len(), number - 1));
                }
                self.bytes.extend(PREFACE);
            }
            Tail::PartialHeaders => self.bytes.extend(b"GET /smuggled/partial HTTP/1.1\r\nho"),
            Tail::Upgrade { len, filling, patient } => {
                let head =
                    format!("GET /r/{number} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
                self.bytes.extend(head.into_bytes());
                if *patient {
                    self.gates.push((self.bytes.len(), number));
                }
                self.bytes.extend(filling.bytes(number, *len));
            }
        }
    }
}

fn head(number: usize, request: &Request) -> String {
    let version = if request.version == Version::Http11 { "1.1" } else { "1.0" };
    let mut head = format!("{} /r/{number} HTTP/{version}\r\nhost: x\r\n", request.method());
    let mut connection = Vec::new();
    if request.closes {
        connection.push("close");
    } else if request.version == Version::Http10KeepAlive {
        connection.push("keep-alive");
    }
    match request.upgrade {
        Upgrade::None => {}
        Upgrade::H2c => {
            connection.extend(["Upgrade", "HTTP2-Settings"]);
            head += "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
        }
        Upgrade::WebSocket => {
            connection.push("upgrade");
            head +=
                "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        }
    }
    if !connection.is_empty() {
        head += &format!("connection: {}\r\n", connection.join(", "));
    }
    if request.expects != Expects::Nothing {
        head += "expect: 100-continue\r\n";
    }
    match &request.body {
        None => {}
        Some(Upload { chunks: Some(_), .. }) => head += "transfer-encoding: chunked\r\n",
        Some(Upload { len, .. }) => head += &format!("content-length: {len}\r\n"),
    }
    head + "\r\n"
}

impl Response {
    /// The first one of `bytes`, and how long it is; `None` when there is not all of it yet.
    pub(super) fn parse(bytes: &[u8], is_ended: bool, to_head: bool) -> Result<Option<(Self, usize)>, String> {
        let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| format!("no head: {:?}", &bytes[..end]))?;
        let mut lines = text.split("\r\n");
        let status = lines.next().filter(|line| line.starts_with("HTTP/1.")).and_then(|line| line.get(9..12));
        let status = status.and_then(|status| status.parse().ok()).ok_or_else(|| format!("no status: {text:?}"))?;
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut response = Self { status, headers: headers.collect(), body: Vec::new() };
        let rest = &bytes[end + 4..];
        let len = if to_head || status < 200 || matches!(status, 204 | 304) {
            Some(0)
        } else if response.header("transfer-encoding").is_some() {
            response.unchunk(rest)?
        } else if let Some(len) = response.header("content-length") {
            let len = len.parse::<usize>().map_err(|error| error.to_string())?;
            (rest.len() >= len).then_some(len)
        } else {
            is_ended.then_some(rest.len())
        };
        let Some(len) = len else { return Ok(None) };
        if response.header("transfer-encoding").is_none() {
            response.body = rest[..len].to_vec();
        }
        Ok(Some((response, end + 4 + len)))
    }

    /// Fills the body, and says how long it is in chunks.
    fn unchunk(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let mut at = 0;
        loop {
            let Some(line) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
            let size =
                std::str::from_utf8(&bytes[at..at + line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.ok_or_else(|| format!("no chunk: {:?}", String::from_utf8_lossy(&bytes[at..at + line])))?;
            let data = at + line + 2;
            let Some(chunk) = bytes.get(data..data + size + 2) else { return Ok(None) };
            if !chunk.ends_with(b"\r\n") {
                return Err("a chunk has no end".to_owned());
            }
            self.body.extend(&chunk[..size]);
            at = data + size + 2;
            if size == 0 {
                return Ok(Some(at));
            }
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// The number in a header.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.header(name)?.parse().ok()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers, body } = self;
        write!(f, "{status} {headers:?} with {} bytes", body.len())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
