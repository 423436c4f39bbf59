//! HTTP/1.1 by hand, over TCP and Unix sockets: a client that sends what it is given, reports what it sees, and sends nothing
//! twice.
//!
//! It blocks: use it off a runtime's only thread.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use axum_activation::ListenAddr;
use rustix::net::{RecvFlags, recv};
use socket2::Socket;

use super::wait::LIMIT;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    /// What has come and was not asked for yet.
    ahead: Vec<u8>,
}

/// What a client connects to.
pub(crate) trait Target {
    fn addr(self) -> ListenAddr;
}

impl Target for SocketAddr {
    fn addr(self) -> ListenAddr {
        self.into()
    }
}

impl Target for &ListenAddr {
    fn addr(self) -> ListenAddr {
        self.clone()
    }
}

impl Target for &str {
    fn addr(self) -> ListenAddr {
        self.parse().expect("an address")
    }
}

/// A response that came whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers, in lower case.
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(to: impl Target) -> io::Result<Self> {
        match to.addr() {
            ListenAddr::Tcp(addr) => Self::over(TcpStream::connect(addr)?),
            ListenAddr::Unix(path) => Self::over(UnixStream::connect(path)?),
            other => panic!("this client cannot connect to {other}"),
        }
    }

    /// A client on a connection that there is.
    pub(crate) fn over(stream: impl Into<Socket>) -> io::Result<Self> {
        let socket = stream.into();
        // Not on a Unix socket.
        let _ = socket.set_tcp_nodelay(true);
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        Ok(Self { socket, ahead: Vec::new() })
    }

    /// Its own address, over TCP.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|addr| addr.as_socket()).expect("a TCP socket")
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref())
    }

    /// Sends a request without a body, and reads its answer.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask(path)?;
        self.answer()
    }

    /// Sends a request without a body.
    pub(crate) fn ask(&mut self, path: &str) -> io::Result<()> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    /// Sends a request with a body.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> io::Result<()> {
        self.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// Reads an answer whose headers say how long its body is.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let (status, headers) = self.headers()?;
        let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = self.take(length.map_or(0, |length| length.parse().expect("a length")))?;
        Ok(Answer { status, headers, body })
    }

    /// Reads the status line and the headers of an answer: its status, and all of it in lower case.
    pub(crate) fn headers(&mut self) -> io::Result<(u16, String)> {
        let headers = self.take_to(b"\r\n\r\n")?;
        let status = headers.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("no answer: {headers:?}")))?;
        Ok((status, headers.to_lowercase()))
    }

    /// Reads a piece of a body in chunks, without its frame; `None` at its end.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<String>> {
        let size = usize::from_str_radix(self.take_to(b"\r\n")?.trim_end(), 16).map_err(io::Error::other)?;
        let chunk = String::from_utf8(self.take(size)?).map_err(io::Error::other)?;
        let frame_end = self.take(2)?;
        assert_eq!(frame_end, b"\r\n", "a chunk ends with an empty line");
        Ok((size > 0).then_some(chunk))
    }

    /// Reads so many bytes.
    pub(crate) fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            self.read_more()?;
        }
        let rest = self.ahead.split_off(count);
        Ok(std::mem::replace(&mut self.ahead, rest))
    }

    /// Reads to the end: what still came. A reset is an error.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.ahead);
        self.socket.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Waits for the end of the connection, which must come in order and without another byte.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        assert_eq!(self.rest().expect("an end in order"), b"");
    }

    /// Whether the server ends the connection without another byte, in order or not; waits for either.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.rest() {
            Ok(rest) => rest.is_empty(),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic!("the connection is still open: {error}"),
        }
    }

    /// Whether the server has closed, as far as can be seen without waiting: what a pool of connections asks before it sends.
    pub(crate) fn is_over(&self) -> io::Result<bool> {
        match self.peek() {
            Ok(0) => Ok(true),
            Ok(_) => Err(io::Error::new(ErrorKind::InvalidData, "bytes that were not asked for")),
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether nothing has come that was not read yet, neither an answer nor the end, as far as can be seen without waiting.
    pub(crate) fn is_silent(&self) -> bool {
        self.ahead.is_empty() && self.peek() == Err(rustix::io::Errno::AGAIN)
    }

    fn peek(&self) -> rustix::io::Result<usize> {
        recv(&self.socket, &mut [0][..], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|(count, _)| count)
    }

    /// Whether the server has read all that was sent, as `/proc/net/tcp` says of its socket.
    pub(crate) fn is_read(&self) -> bool {
        let port = |addr: SocketAddr| format!("{:04X}", addr.port());
        let peer = self.socket.peer_addr().ok().and_then(|addr| addr.as_socket()).expect("a TCP socket");
        let (server, client) = (port(peer), port(self.local_addr()));
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("procfs");
        let mut sockets = sockets.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let its = sockets.find(|socket| socket[1].ends_with(&server) && socket[2].ends_with(&client));
        its.is_some_and(|socket| socket[4].ends_with(":00000000"))
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    /// Reads text up to that end, and the end.
    fn take_to(&mut self, end: &[u8]) -> io::Result<String> {
        let count = loop {
            match self.ahead.windows(end.len()).position(|bytes| bytes == end) {
                Some(at) => break at + end.len(),
                None => self.read_more()?,
            }
        };
        String::from_utf8(self.take(count)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut space = [0; 16 << 10];
        match self.socket.read(&mut space)? {
            0 if self.ahead.is_empty() => Err(io::Error::new(ErrorKind::UnexpectedEof, "closed without an answer")),
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "closed within an answer")),
            count => {
                self.ahead.extend_from_slice(&space[..count]);
                Ok(())
            }
        }
    }
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn has_header(&self, line: &str) -> bool {
        self.headers.lines().any(|header| header == line)
    }

    /// Whether it says that it is the last one.
    pub(crate) fn says_close(&self) -> bool {
        self.has_header("connection: close")
    }
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn get(to: impl Target, path: &str) -> Answer {
    Client::connect(to).expect("it listens").get(path).expect("an answer")
}

/// The body of one request on a connection of its own, which must succeed.
#[track_caller]
pub(crate) fn text(to: impl Target, path: &str) -> String {
    let answer = get(to, path);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}
