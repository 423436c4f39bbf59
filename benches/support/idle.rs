//! Clients that have had their answer, keep the connection, and wait for its end.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    process::{Pid, PidfdFlags, pidfd_open},
};
use socket2::SockAddr;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const STATUS: &[u8] = b"HTTP/1.1 200 OK\r\n";
const END: &[u8] = b"\r\n\r\nhello";

/// A server that is silent for so long is broken, and the benchmark with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stands for the server process where other numbers stand for clients.
const PROCESS: u64 = u64::MAX;

/// Connections, all idle.
#[derive(Debug)]
pub(crate) struct IdleClients {
    connections: Vec<Option<TcpStream>>,
    epoll: OwnedFd,
}

/// How connections ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// In order, with nothing sent before.
    closed: usize,
    /// With an error: a reset.
    reset: usize,
    /// After bytes that it had not asked for.
    spoken: usize,
}

impl IdleClients {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { connections: Vec::new(), epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Adds one, and has one request of it answered.
    pub(crate) fn connect(&mut self, server: &SockAddr) -> io::Result<()> {
        let server: SocketAddr = server.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        let mut connection = TcpStream::connect(server)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(REQUEST)?;
        read_response(&mut connection)?;
        self.connections.push(Some(connection));
        Ok(())
    }

    /// Waits until a process has ended and every connection too, and says how those did, and when the process.
    ///
    /// A client that is at the end of its connection closes it at once.
    pub(crate) fn await_end(mut self, pid: Pid) -> io::Result<(Ends, Instant)> {
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        epoll::add(&self.epoll, &process, EventData::new_u64(PROCESS), EventFlags::IN | EventFlags::ONESHOT)?;
        for (connection, number) in self.connections.iter().flatten().zip(0..) {
            epoll::add(&self.epoll, connection, EventData::new_u64(number), EventFlags::IN)?;
        }
        let (mut ends, mut ended) = (Ends::default(), None);
        while ended.is_none() || ends.count() < self.connections.len() {
            for event in self.wait()? {
                match event.data.u64() {
                    PROCESS => ended = Some(Instant::now()),
                    number => self.end(number, &mut ends),
                }
            }
        }
        Ok((ends, ended.unwrap_or_else(Instant::now)))
    }

    /// A few events: it is to be seen at once that the process has ended.
    fn wait(&self) -> io::Result<Vec<Event>> {
        let mut events = Vec::with_capacity(64);
        let patience = Timespec::try_from(PATIENCE).map_err(|_| io::ErrorKind::InvalidInput)?;
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&patience))?;
        if events.is_empty() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(events) }
    }

    fn end(&mut self, number: u64, ends: &mut Ends) {
        let connection = usize::try_from(number).ok().and_then(|number| self.connections.get_mut(number)?.take());
        match connection.map(|mut connection| connection.read(&mut [0; 512])) {
            Some(Ok(0)) => ends.closed += 1,
            Some(Ok(_)) => ends.spoken += 1,
            Some(Err(_)) => ends.reset += 1,
            None => {}
        }
    }
}

impl Ends {
    /// Those and these.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { closed: self.closed + other.closed, reset: self.reset + other.reset, spoken: self.spoken + other.spoken }
    }

    fn count(self) -> usize {
        self.closed + self.reset + self.spoken
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} closed, {} reset", self.closed, self.reset)?;
        if self.spoken > 0 { write!(f, ", {} spoken to", self.spoken) } else { Ok(()) }
    }
}

fn read_response(connection: &mut TcpStream) -> io::Result<()> {
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

fn unexpected(answer: &[u8]) -> io::Error {
    io::Error::other(format!("the server answered {:?}", String::from_utf8_lossy(answer)))
}
