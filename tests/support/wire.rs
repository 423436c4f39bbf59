//! HTTP/1.1 by hand: a client that sends what it is told, and tells what it sees.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::net::{RecvFlags, recv};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection; it blocks.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
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

    /// Reads an answer whose head says how long its body is.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let (status, head) = self.head()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = self.take(length.map_or(0, |length| length.parse().expect("a length")))?;
        Ok(Answer { status, head, body })
    }

    /// Reads the head of an answer: its status, and all of it in lower case.
    pub(crate) fn head(&mut self) -> io::Result<(u16, String)> {
        let end = loop {
            match self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.read_more()?,
            }
        };
        let head = String::from_utf8(self.take(end)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let status =
            head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|status| status.parse().ok());
        match status {
            Some(status) => Ok((status, head.to_lowercase())),
            None => Err(io::Error::new(ErrorKind::InvalidData, format!("no answer: {head:?}"))),
        }
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
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Whether the server has closed, as far as can be seen without waiting: what a pool of connections asks before it sends.
    pub(crate) fn is_over(&self) -> io::Result<bool> {
        let mut byte = [0];
        match recv(&self.stream, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(true),
            Ok(_) => Err(io::Error::new(ErrorKind::InvalidData, "bytes that were not asked for")),
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the server has read all that was sent, as `/proc/net/tcp` tells of its socket.
    pub(crate) fn is_read(&self) -> bool {
        let port = |addr: io::Result<SocketAddr>| format!("{:04X}", addr.expect("a TCP socket").port());
        let (server, client) = (port(self.stream.peer_addr()), port(self.stream.local_addr()));
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("procfs");
        let mut sockets = sockets.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let its = sockets.find(|socket| socket[1].ends_with(&server) && socket[2].ends_with(&client));
        its.is_some_and(|socket| socket[4].ends_with(":00000000"))
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut space = [0; 16 << 10];
        match self.stream.read(&mut space)? {
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

    /// Whether it says that it is the last one.
    pub(crate) fn says_close(&self) -> bool {
        says_close(&self.head)
    }
}

pub(crate) fn says_close(head: &str) -> bool {
    head.lines().any(|line| line == "connection: close")
}
