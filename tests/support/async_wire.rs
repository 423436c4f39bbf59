//! One HTTP/1 connection of a client that never retries, seen from the wire.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

/// How long anything may take that takes no time; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire(BufReader<tokio::net::TcpStream>);

/// A response that came whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Wire {
    /// Connects before the runtime hears of it.
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nonblocking(true)?;
        Ok(Self(BufReader::new(tokio::net::TcpStream::from_std(stream)?)))
    }

    /// Asks for `path` with GET, and reads the answer to its end.
    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send("GET", path).await?;
        self.answer().await
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str) -> io::Result<()> {
        self.write(&format!("{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await
    }

    /// Sends any bytes.
    pub(crate) async fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes()).await
    }

    /// The next answer; an error unless it comes whole.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        let head = self.head().await?;
        let body = self.body(&head).await?;
        Ok(answer(head, body))
    }

    /// The answer to HEAD.
    pub(crate) async fn answer_without_body(&mut self) -> io::Result<Answer> {
        self.head().await.map(|head| answer(head, String::new()))
    }

    /// The status line and the headers.
    pub(crate) async fn head(&mut self) -> io::Result<String> {
        let mut head = String::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(head.to_lowercase());
            }
            head += &line;
            head += "\n";
        }
    }

    /// One chunk of a body, without its frame; `None` for the last one.
    pub(crate) async fn chunk(&mut self) -> io::Result<Option<String>> {
        let size = self.line().await?;
        let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
        let chunk = self.exactly(size).await?;
        let frame_end = self.line().await?;
        assert_eq!(frame_end, "", "a chunk ends with an empty line");
        Ok((size > 0).then_some(chunk))
    }

    /// Waits until the server closes; an error if it sends anything more, or resets.
    pub(crate) async fn closed(&mut self) -> io::Result<()> {
        match patiently(self.0.read(&mut [0])).await? {
            0 => Ok(()),
            _ => Err(io::Error::other("the server sent more")),
        }
    }

    async fn body(&mut self, head: &str) -> io::Result<String> {
        let mut body = String::new();
        if head.contains("transfer-encoding: chunked") {
            while let Some(chunk) = self.chunk().await? {
                body += &chunk;
            }
            return Ok(body);
        }
        let size = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        self.exactly(size.unwrap_or(0)).await
    }

    async fn exactly(&mut self, size: usize) -> io::Result<String> {
        let mut bytes = vec![0; size];
        patiently(self.0.read_exact(&mut bytes)).await?;
        String::from_utf8(bytes).map_err(io::Error::other)
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(patiently(self.0.read_u8()).await?);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(io::Error::other)
    }
}

impl Answer {
    /// Whether it says that it is the last one.
    pub(crate) fn is_last(&self) -> bool {
        self.head.contains("\nconnection: close\n")
    }
}

fn answer(head: String, body: String) -> Answer {
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head, body }
}

async fn patiently<T>(io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, io).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
