//! Keep-alive clients on one thread that never try a request again: one after the other as fast as they are answered, or by the clock.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroU64,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use crate::http2::Http2;
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, EventData, EventFlags},
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const STATUS: &[u8] = b"HTTP/1.1 200 OK\r\n";
const CLOSE: &[u8] = b"connection: close\r\n";
const END: &[u8] = b"\r\n\r\nhello";

/// A client whose connect is refused waits for so long before it goes on with its next request.
const PAUSE: Duration = Duration::from_millis(10);

/// A client that waits looks again after so long whether a pause is over.
const MOST_PAUSE: Duration = Duration::from_millis(1);

/// A server that is silent for so long is broken, and the benchmark with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// When a request is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// When the one before it on the same connection is answered.
    BackToBack,
    /// When it is due, on one connection after the other; it waits where the one before it is not answered yet. Its latency runs
    /// from when it was due.
    Each(Duration),
}

/// What the clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// What became of the requests of some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Of each request that was answered, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// Requests without an answer: the connect was refused, or the connection ended before it.
    pub(crate) lost: usize,
    /// Connections that the server has closed.
    pub(crate) closed: usize,
    pub(crate) elapsed: Duration,
}

/// The clients.
#[derive(Debug)]
pub(crate) struct Clients {
    server: SocketAddr,
    speaks: Speaks,
    clients: Vec<Client>,
    epoll: OwnedFd,
}

#[derive(Debug, Default)]
struct Client {
    connection: Option<TcpStream>,
    http2: Option<Http2>,
    /// When its requests are due that are not answered yet.
    due: VecDeque<Instant>,
    /// The first of them is sent.
    is_sent: bool,
    received: Vec<u8>,
}

/// What has become of the first request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Pending,
    Answered,
    Lost,
}

impl Outcome {
    /// Requests that were answered, per second.
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that `share` of the requests did not exceed.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}

impl Clients {
    /// Connects so many.
    pub(crate) fn connect(server: SocketAddr, speaks: Speaks, count: usize) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut clients = Self { server, speaks, clients: (0..count).map(|_| Client::default()).collect(), epoll };
        for (client, number) in clients.clients.iter_mut().zip(0..) {
            client.connect(server, speaks, number, &clients.epoll)?;
        }
        Ok(clients)
    }

    /// Sends requests for `time`, and waits for the answers of those that are due by then.
    pub(crate) fn run(&mut self, pace: Pace, time: Duration) -> io::Result<Outcome> {
        // To wake when it is time, and not up to 50 µs later.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let begin = Instant::now();
        let end = begin + time;
        let mut outcome = Outcome::default();
        let mut events = Vec::with_capacity(self.clients.len());
        let (mut next, mut turn) = (begin, 0);
        if matches!(pace, Pace::BackToBack) {
            self.clients.iter_mut().for_each(|client| client.due.push_back(begin));
        }
        while self.is_busy(end)? {
            let now = Instant::now();
            if let Pace::Each(interval) = pace {
                while next <= now.min(end) {
                    self.clients[turn].due.push_back(next);
                    turn = (turn + 1) % self.clients.len();
                    next += interval;
                }
            }
            self.send_what_is_due(now, end, pace, &mut outcome)?;
            let pause = match pace {
                Pace::BackToBack => MOST_PAUSE,
                Pace::Each(_) => next.saturating_duration_since(Instant::now()).min(MOST_PAUSE),
            };
            let pause = Timespec::try_from(pause).map_err(|_| ErrorKind::InvalidInput)?;
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&pause))?;
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64()).map_err(|_| ErrorKind::InvalidData)?;
                let client = &mut self.clients[number];
                if client.read(&mut outcome)? != Step::Pending {
                    client.plan_next(pace, Instant::now(), end);
                }
            }
        }
        outcome.elapsed = begin.elapsed();
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }

    /// Until nothing is due any more.
    fn is_busy(&self, end: Instant) -> io::Result<bool> {
        let now = Instant::now();
        if now > end + PATIENCE {
            return Err(io::Error::other("a request is not answered"));
        }
        Ok(now <= end || self.clients.iter().any(|client| !client.due.is_empty()))
    }

    fn send_what_is_due(&mut self, now: Instant, end: Instant, pace: Pace, outcome: &mut Outcome) -> io::Result<()> {
        let Self { server, speaks, epoll, .. } = self;
        for (client, number) in self.clients.iter_mut().zip(0..) {
            if client.is_due(now) && client.send(*server, *speaks, number, epoll, outcome)? == Step::Lost {
                client.plan_next(pace, now + PAUSE, end);
            }
        }
        Ok(())
    }
}

impl Client {
    fn is_due(&self, now: Instant) -> bool {
        !self.is_sent && self.due.front().is_some_and(|due| *due <= now)
    }

    fn plan_next(&mut self, pace: Pace, when: Instant, end: Instant) {
        if matches!(pace, Pace::BackToBack) && when < end {
            self.due.push_back(when);
        }
    }

    fn connect(&mut self, server: SocketAddr, speaks: Speaks, number: u64, epoll: &OwnedFd) -> io::Result<()> {
        let mut connection = TcpStream::connect(server)?;
        connection.set_nodelay(true)?;
        self.http2 = None;
        if speaks == Speaks::Http2 {
            let (http2, opening) = Http2::new();
            connection.write_all(&opening)?;
            self.http2 = Some(http2);
        }
        connection.set_nonblocking(true)?;
        epoll::add(epoll, &connection, EventData::new_u64(number), EventFlags::IN)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Sends its first request, on a new connection if it has none.
    fn send(
        &mut self,
        server: SocketAddr,
        speaks: Speaks,
        number: u64,
        epoll: &OwnedFd,
        outcome: &mut Outcome,
    ) -> io::Result<Step> {
        if self.connection.is_none() {
            match self.connect(server, speaks, number, epoll) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(self.lose(outcome)),
                Err(error) => return Err(error),
            }
        }
        let Some(connection) = &mut self.connection else { return Ok(Step::Pending) };
        self.is_sent = true;
        // A request fits into the socket's buffer always.
        let sent = match &mut self.http2 {
            Some(http2) => connection.write_all(&http2.request("/")),
            None => connection.write_all(REQUEST),
        };
        match sent {
            Ok(()) => Ok(Step::Pending),
            Err(_) => Ok(self.close(outcome)),
        }
    }

    fn read(&mut self, outcome: &mut Outcome) -> io::Result<Step> {
        let Some(connection) = &mut self.connection else { return Ok(Step::Pending) };
        let mut buffer = [0; 512];
        match connection.read(&mut buffer) {
            Ok(length) if length > 0 && self.http2.is_some() => return self.take_http2(&buffer[..length], outcome),
            Ok(length) if length > 0 => self.received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Pending),
            _ => return Ok(self.close(outcome)),
        }
        if !self.received.ends_with(END) {
            return Ok(Step::Pending);
        }
        if !self.is_sent || !self.received.starts_with(STATUS) {
            let answer = String::from_utf8_lossy(&self.received);
            return Err(io::Error::other(format!("the server answered {answer:?}")));
        }
        outcome.latencies.extend(self.due.pop_front().map(|due| due.elapsed()));
        if self.received.windows(CLOSE.len()).any(|part| part == CLOSE) {
            self.connection = None;
            outcome.closed += 1;
        }
        self.received.clear();
        self.is_sent = false;
        Ok(Step::Answered)
    }

    fn take_http2(&mut self, bytes: &[u8], outcome: &mut Outcome) -> io::Result<Step> {
        let (Some(http2), Some(connection)) = (&mut self.http2, &mut self.connection) else { return Ok(Step::Pending) };
        let answer = http2.take(bytes)?;
        if connection.write_all(&http2.replies()).is_err() {
            return Ok(self.close(outcome));
        }
        let is_going_away = http2.is_going_away();
        let answered = match answer.as_deref() {
            None => false,
            Some(b"hello") if self.is_sent => true,
            Some(other) => return Err(io::Error::other(format!("the server answered {other:?}"))),
        };
        if answered {
            outcome.latencies.extend(self.due.pop_front().map(|due| due.elapsed()));
            self.is_sent = false;
        }
        if is_going_away && !self.is_sent {
            self.connection = None;
            outcome.closed += 1;
        }
        Ok(if answered { Step::Answered } else { Step::Pending })
    }

    /// The connection is at its end, and with it the request that waits for its answer.
    fn close(&mut self, outcome: &mut Outcome) -> Step {
        self.connection = None;
        self.received.clear();
        outcome.closed += 1;
        if self.is_sent { self.lose(outcome) } else { Step::Pending }
    }

    fn lose(&mut self, outcome: &mut Outcome) -> Step {
        self.due.pop_front();
        self.is_sent = false;
        outcome.lost += 1;
        Step::Lost
    }
}
