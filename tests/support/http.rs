//! A plain HTTP/1.1 client over TCP and Unix sockets, which blocks: use it off the runtime's only thread.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use axum_activation::ListenAddr;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Duplex>>,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lower-case lines.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(addr: &ListenAddr) -> Self {
        match addr {
            ListenAddr::Tcp(addr) => Self::over_tcp(TcpStream::connect(addr).unwrap()),
            ListenAddr::Unix(path) => Self::over_unix(UnixStream::connect(path).unwrap()),
            other => panic!("this client cannot connect to {other}"),
        }
    }

    pub(crate) fn over_tcp(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    pub(crate) fn over_unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// A request on this connection, which stays open.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask(path);
        self.answer()
    }

    /// Sends a request and does not wait for its answer.
    pub(crate) fn ask(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Reads an answer with a `Content-Length`, or without a body.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.expect("a status line");
        let headers: Vec<_> =
            std::iter::from_fn(|| Some(self.line().to_lowercase()).filter(|line| !line.is_empty())).collect();
        let length = headers.iter().find_map(|line| line.strip_prefix("content-length: "));
        let body = self.take(length.map_or(0, |length| length.parse().unwrap()));
        Answer { status, headers, body }
    }

    /// The next so many bytes.
    #[track_caller]
    pub(crate) fn take(&mut self, bytes: usize) -> String {
        let mut taken = vec![0; bytes];
        self.stream.read_exact(&mut taken).unwrap();
        String::from_utf8(taken).unwrap()
    }

    /// The next line, without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert!(line.ends_with("\r\n"), "the connection ended after {line:?}");
        line.trim_end().to_owned()
    }

    /// Whether the server ends the connection without another byte; waits for either.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(rest) => rest.is_empty(),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic!("the connection is still open: {error}"),
        }
    }
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn get(addr: &ListenAddr, path: &str) -> Answer {
    Client::connect(addr).get(path)
}

/// The body of one request on a connection of its own, which must succeed.
#[track_caller]
pub(crate) fn text(addr: &ListenAddr, path: &str) -> String {
    let answer = get(addr, path);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}
