//! The client of a benchmark: raw HTTP/1.1 or HTTP/2 over blocking sockets, as little work as can be.

use std::{
    fmt,
    io::{self, Read, Write},
    net::Shutdown,
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const STATUS: &[u8] = b"HTTP/1.1 200 OK\r\n";
const END: &[u8] = b"\r\n\r\nhello";

/// The preface of HTTP/2, its first SETTINGS, and the acknowledgement of those of the server (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
/// A header block of the static table alone: GET, http, / (RFC 7541, appendix A).
const GET: &[u8] = &[0x82, 0x86, 0x84];
const DATA: u8 = 0;
const GOAWAY: u8 = 7;

/// A server that is silent for so long is broken, and the benchmark with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// A request on a connection that stays.
    KeepAlive,
    /// A connection, one request, until the server closes.
    PerRequest,
    /// A connection without a request, until the server closes.
    Accept,
    /// A request on a connection of HTTP/2 that stays.
    Http2,
}

impl Load {
    /// Those of HTTP/1.1.
    pub(crate) const ALL: [Self; 3] = [Self::KeepAlive, Self::PerRequest, Self::Accept];

    /// Whether a connection stays after an exchange.
    pub(crate) fn keeps(self) -> bool {
        matches!(self, Self::KeepAlive | Self::Http2)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KeepAlive => "keep-alive",
            Self::PerRequest => "connection per request",
            Self::Accept => "connection without request",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// A client that has one exchange under way at a time.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    load: Load,
    server: &'a SockAddr,
    connection: Option<Socket>,
    /// HTTP/2: the stream of the next request.
    stream: u32,
}

impl<'a> Client<'a> {
    pub(crate) fn new(load: Load, server: &'a SockAddr) -> Self {
        Self { load, server, connection: None, stream: 1 }
    }

    /// Begins an exchange, without waiting for the server. A connection of which nothing more is expected is closed first.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) if self.load.keeps() => connection,
            over => {
                drop(over);
                connect(self.server)?
            }
        };
        match self.load {
            Load::KeepAlive => connection.write_all(REQUEST)?,
            Load::PerRequest => connection.write_all(LAST_REQUEST)?,
            Load::Accept => connection.shutdown(Shutdown::Write)?,
            Load::Http2 => {
                if self.stream == 1 {
                    connection.write_all(PREFACE)?;
                }
                // HEADERS with END_STREAM and END_HEADERS.
                let [a, b, c, d] = self.stream.to_be_bytes();
                connection.write_all(&[&[0, 0, 3, 1, 5, a, b, c, d], GET].concat())?;
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Waits for the end of the exchange.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let connection = self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        if self.load == Load::KeepAlive {
            return read_response(connection);
        }
        if self.load == Load::Http2 {
            read_stream(connection, self.stream)?;
            self.stream += 2;
            return Ok(());
        }
        if self.load == Load::PerRequest {
            read_response(connection)?;
        }
        read_end(connection)
    }
}

fn connect(server: &SockAddr) -> io::Result<Socket> {
    let tcp = server.is_ipv4();
    let connection = Socket::new(if tcp { Domain::IPV4 } else { Domain::UNIX }, Type::STREAM, None)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    if tcp {
        connection.set_tcp_nodelay(true)?;
        // A reset once the server has closed: nothing stays behind in TIME_WAIT.
        connection.set_linger(Some(Duration::ZERO))?;
    }
    connection.connect(server)?;
    Ok(connection)
}

fn read_response(connection: &mut Socket) -> io::Result<()> {
    let mut buffer = [0; 512];
    let mut length = 0;
    while !buffer[..length].ends_with(END) {
        match connection.read(&mut buffer[length..])? {
            0 => return Err(unexpected(&buffer[..length])),
            more => length += more,
        }
    }
    if buffer.starts_with(STATUS) { Ok(()) } else { Err(unexpected(&buffer[..length])) }
}

/// Reads frames to the end of this stream.
fn read_stream(connection: &mut Socket, stream: u32) -> io::Result<()> {
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head)?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        connection.read_exact(&mut payload)?;
        if kind == DATA && flags & 1 != 0 && u32::from_be_bytes(id) == stream {
            return if payload == b"hello" { Ok(()) } else { Err(unexpected(&payload)) };
        }
        if kind == GOAWAY {
            return Err(unexpected(&payload));
        }
    }
}

fn read_end(connection: &mut Socket) -> io::Result<()> {
    let mut buffer = [0; 512];
    match connection.read(&mut buffer)? {
        0 => Ok(()),
        length => Err(unexpected(&buffer[..length])),
    }
}

fn unexpected(answer: &[u8]) -> io::Error {
    io::Error::other(format!("the server answered {:?}", String::from_utf8_lossy(answer)))
}
