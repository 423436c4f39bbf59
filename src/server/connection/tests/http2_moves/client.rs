//! A client that writes frames as a test wants them.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::{
    super::super::observe::http2::frame::{self, Head, PREFACE, flag, kind},
    lines::Route,
};
use crate::server::limits::Http2Options;

/// How long a frame may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) head: Head,
    pub(super) payload: Vec<u8>,
}

/// The client's side of a connection.
pub(super) struct Client {
    pub(super) stream: UnixStream,
    received: Vec<u8>,
    /// Answers SETTINGS and PING.
    pub(super) acknowledges: bool,
    /// Sends `WINDOW_UPDATE` for DATA at once, on the connection and on the stream.
    pub(super) updates: bool,
    /// The values of SETTINGS that came, in order.
    pub(super) settings: Vec<Vec<(u16, u32)>>,
    /// What came on each stream.
    pub(super) bodies: HashMap<u32, Vec<u8>>,
    ended: HashSet<u32>,
    /// SETTINGS that are not acknowledged yet, as the client is in the middle of a frame.
    unacknowledged: usize,
    /// Its window on the connection, as far as the server may know it, and that of the server.
    pub(super) window: i64,
    pub(super) server_window: i64,
    pub(super) goaway: Option<(u32, u32)>,
    pub(super) resets: Vec<(u32, u32)>,
    /// What HPACK blocks begin with that came.
    pub(super) blocks: Vec<Vec<u8>>,
}

impl Client {
    pub(super) async fn connect(route: &Route) -> Self {
        Self::connect_with(route, &[]).await
    }

    /// Announces these values.
    pub(super) async fn connect_with(route: &Route, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::new(route);
        client.send(PREFACE).await;
        client.send(&frame::settings(settings.iter().copied())).await;
        client.frame_where(|frame| frame.head.is_settings_ack()).await;
        client
    }

    pub(super) fn new(route: &Route) -> Self {
        Self {
            stream: route.connect(),
            received: Vec::new(),
            acknowledges: true,
            updates: true,
            settings: Vec::new(),
            bodies: HashMap::new(),
            ended: HashSet::new(),
            unacknowledged: 0,
            window: 65_535,
            server_window: 65_535,
            goaway: None,
            resets: Vec::new(),
            blocks: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// A frame of the server, after what is to be answered was answered; `None` at the end.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        let frame = timeout(PATIENCE, self.read_frame()).await.expect("nothing comes")?;
        self.note(&frame).await;
        Some(frame)
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.received.first_chunk().map(|head| Head::parse(*head)) {
                let length = 9 + head.length as usize;
                if self.received.len() >= length {
                    let payload = self.received[9..length].to_vec();
                    self.received.drain(..length);
                    return Some(Frame { head, payload });
                }
            }
            if self.stream.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn note(&mut self, frame: &Frame) {
        let Frame { head, payload } = frame;
        if head.ends_stream() {
            self.ended.insert(head.stream);
        }
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match head.kind {
            kind::DATA => {
                self.bodies.entry(head.stream).or_default().extend_from_slice(payload);
                self.window -= i64::from(head.length);
                assert!(self.window >= 0, "the server sends more than the client allows");
                if self.updates && head.length > 0 {
                    self.update(head.length).await;
                    self.send(&frame::window_update(head.stream, head.length)).await;
                }
            }
            kind::HEADERS => self.blocks.push(payload.clone()),
            kind::SETTINGS if !head.has(flag::ACK) => {
                let values = payload.chunks(6).map(|value| {
                    (u16::from_be_bytes([value[0], value[1]]), u32::from_be_bytes(value[2..].try_into().unwrap()))
                });
                self.settings.push(values.collect());
                if self.acknowledges {
                    self.send(&frame::settings_ack()).await;
                } else {
                    self.unacknowledged += 1;
                }
            }
            kind::PING if !head.has(flag::ACK) && self.acknowledges => {
                let head = Head { flags: flag::ACK, ..*head };
                self.send(&[&head.encode(), payload.as_slice()].concat()).await;
            }
            kind::WINDOW_UPDATE if head.stream == 0 => self.server_window += i64::from(word(0)),
            kind::RST_STREAM => self.resets.push((head.stream, word(0))),
            kind::GOAWAY => self.goaway = Some((word(0), word(4))),
            _ => {}
        }
    }

    /// Acknowledges all that came while it could not.
    pub(super) async fn acknowledge(&mut self) {
        self.acknowledges = true;
        for _ in 0..std::mem::take(&mut self.unacknowledged) {
            self.send(&frame::settings_ack()).await;
        }
    }

    /// Acknowledges all that came while it could not, but for the first, which it has acknowledged itself.
    pub(super) async fn acknowledge_next(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        self.acknowledge().await;
    }

    /// Lets the server send so much more on the connection.
    pub(super) async fn update(&mut self, increment: u32) {
        self.window += i64::from(increment);
        self.send(&frame::window_update(0, increment)).await;
    }

    /// Waits for such a frame, and answers what comes before it.
    pub(super) async fn frame_where(&mut self, is_wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.frame().await.unwrap_or_else(|| panic!("the server closes: {:?}", self.goaway));
            if is_wanted(&frame) {
                return frame;
            }
        }
    }

    /// Reads until this stream has ended, and returns its body.
    pub(super) async fn body(&mut self, stream: u32) -> Vec<u8> {
        self.until(|client| client.ended.contains(&stream)).await;
        self.bodies.remove(&stream).unwrap_or_default()
    }

    /// Sends a request without a body, and returns that of its response.
    pub(super) async fn get(&mut self, stream: u32, path: &str) -> Vec<u8> {
        self.send(&get(stream, path)).await;
        self.body(stream).await
    }

    /// Reads and answers until nothing has come for a while.
    pub(super) async fn settle(&mut self) {
        while let Ok(Some(frame)) = timeout(Duration::from_millis(20), self.read_frame()).await {
            self.note(&frame).await;
        }
    }

    /// Reads to the end.
    pub(super) async fn end(&mut self) {
        while self.frame().await.is_some() {}
    }

    /// Reads and answers until this holds.
    pub(super) async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            self.frame().await.expect("the server closes");
        }
    }

    /// Answers until the connection has moved once more.
    pub(super) async fn moved(&mut self, route: &Route) {
        let before = route.moves();
        route.hand_over();
        self.follow(route, before).await;
    }

    /// Answers until the connection has moved more than so often.
    pub(super) async fn follow(&mut self, route: &Route, before: usize) {
        for _ in 0..2000 {
            if route.moves() > before {
                return;
            }
            self.settle().await;
        }
        panic!("it does not move: {:?}", self.goaway);
    }
}

impl Client {
    /// Hands over, and finds that the connection does not move now.
    pub(super) async fn moved_not(&mut self, route: &Route) {
        let before = route.moves();
        route.hand_over();
        for _ in 0..10 {
            self.settle().await;
        }
        assert_eq!(route.moves(), before);
    }
}

/// A client whose new streams are held, as the answer to stream 1 waits for [`Handler::go_on`](super::handler::Handler::go_on).
pub(super) async fn holding() -> (Route, Client) {
    let route = Route::new(Http2Options::new());
    let mut client = Client::connect(&route).await;
    client.send(&get(1, "/wait")).await;
    client.settle().await;
    route.hand_over();
    client.frame_where(|frame| frame.head.kind == kind::SETTINGS).await;
    (route, client)
}

/// A literal field that is not indexed (RFC 7541, section 6.2.2).
pub(super) fn literal(name: &str, value: &str) -> Vec<u8> {
    let part = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], part(name), part(value)].concat()
}

/// A block of a request to this path: indexes of the static table, and a literal.
pub(super) fn block(method: &str, path: &str) -> Vec<u8> {
    let method = if method == "GET" { vec![0x82] } else { literal(":method", method) };
    let length = u8::try_from(path.len()).unwrap();
    [method, vec![0x86, 0x04, length], path.as_bytes().to_vec(), vec![0x01, 1, b'x']].concat()
}

pub(super) fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    make(kind::HEADERS, flags, stream, block)
}

pub(super) fn make(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&Head { length, kind, flags, stream }.encode(), payload].concat()
}

pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, flag::END_HEADERS | flag::END_STREAM, &block("GET", path))
}

/// The headers of a request with a body.
pub(super) fn post(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, flag::END_HEADERS, &block("POST", path))
}

pub(super) fn data(stream: u32, is_last: bool, payload: &[u8]) -> Vec<u8> {
    make(kind::DATA, if is_last { flag::END_STREAM } else { 0 }, stream, payload)
}
