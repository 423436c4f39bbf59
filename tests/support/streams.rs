//! HTTP/2 clients on the `h2` crate, which never send twice what may have been processed, and note what becomes of each request.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Bytes, http::Request};
use h2::client::SendRequest;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Mutex as AsyncMutex,
    sync::Notify,
    time::timeout,
};

use super::wait::LIMIT;

/// How clients ask.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habit {
    /// Connections, and how many requests each has open at once.
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    /// POST with a body, not GET.
    pub(crate) posts: bool,
    /// Pauses before a request, for a random time up to that.
    pub(crate) thinks: Duration,
    /// Opens a connection for each request.
    pub(crate) opens: bool,
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// What became of the requests of all clients of one server.
#[derive(Debug)]
pub(crate) struct Clients {
    addr: SocketAddr,
    sent: AtomicU64,
    stopped: AtomicBool,
    stops: Notify,
    outcome: Mutex<Outcome>,
    answered: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// Streams above the last that the server had announced, which were sent again.
    pub(crate) sent_again: u64,
    /// What went wrong, for each request that was lost.
    pub(crate) lost: Vec<String>,
    pub(crate) connections: Vec<Arc<Record>>,
}

/// What was seen on one connection.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The last stream of each GOAWAY that came.
    goaways: Mutex<Vec<u32>>,
    /// It ended without one.
    over: AtomicBool,
    /// Whether each stream was answered.
    streams: Mutex<HashMap<u32, bool>>,
}

impl Clients {
    pub(crate) fn new(addr: SocketAddr) -> Arc<Self> {
        let (sent, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self {
            addr,
            sent,
            stopped,
            stops: Notify::new(),
            outcome: Mutex::default(),
            answered: Condvar::new(),
        })
    }

    /// Asks on all connections until it is stopped. Call it on a runtime.
    pub(crate) async fn run(self: Arc<Self>, habit: Habit) {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..habit.connections {
            let lane = Arc::new(Lane { clients: Arc::clone(&self), current: AsyncMutex::new(None) });
            for _ in 0..habit.streams {
                all.spawn(run_stream(Arc::clone(&lane), habit));
            }
        }
        while let Some(ended) = all.join_next().await {
            ended.expect("no client panics");
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Relaxed);
        self.stops.notify_waiters();
    }

    /// Returns when `more` requests have been answered.
    pub(crate) fn wait_for(&self, more: u64) {
        let outcome = self.outcome();
        let enough = outcome.answered + more;
        let waiting = |outcome: &mut Outcome| outcome.answered < enough && outcome.lost.is_empty();
        let (_outcome, late) = self.answered.wait_timeout_while(outcome, LIMIT, waiting).expect("no client panics");
        assert!(!late.timed_out(), "the clients get no answers any more");
    }

    /// How many requests there were; their numbers are 1 to that.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().expect("no client panics")
    }

    fn note(&self, asked: Result<(), String>) {
        let mut outcome = self.outcome();
        match asked {
            Ok(()) => outcome.answered += 1,
            Err(problem) => outcome.lost.push(problem),
        }
        drop(outcome);
        self.answered.notify_all();
    }
}

impl Record {
    pub(crate) fn goaways(&self) -> Vec<u32> {
        self.goaways.lock().expect("no client panics").clone()
    }

    /// Streams up to the last that was announced and yet not answered.
    pub(crate) fn broken_promises(&self) -> Vec<u32> {
        let last = self.goaways().last().copied().unwrap_or(u32::MAX);
        let streams = self.streams.lock().expect("no client panics");
        streams.iter().filter(|(id, answered)| **id <= last && !**answered).map(|(id, _)| *id).collect()
    }

    fn is_usable(&self) -> bool {
        self.goaways().is_empty() && !self.over.load(Relaxed)
    }

    fn give_up(&self) {
        self.over.store(true, Relaxed);
    }

    /// Whether the server has said that it did not process this stream.
    fn is_unprocessed(&self, stream: u32) -> bool {
        self.goaways().last().is_some_and(|last| stream > *last)
    }

    fn note(&self, stream: u32, answered: bool) {
        self.streams.lock().expect("no client panics").insert(stream, answered);
    }
}

/// One connection at a time, for several streams at once.
struct Lane {
    clients: Arc<Clients>,
    current: AsyncMutex<Option<Connection>>,
}

#[derive(Clone)]
struct Connection {
    send: SendRequest<Bytes>,
    record: Arc<Record>,
}

async fn run_stream(lane: Arc<Lane>, habit: Habit) {
    while !lane.clients.stopped.load(Relaxed) {
        let time = habit.thinks.mul_f64(f64::from(roll()) / f64::from(u16::MAX));
        drop(timeout(time, lane.clients.stops.notified()).await);
        let id = lane.clients.sent.fetch_add(1, Relaxed) + 1;
        let body = if habit.posts { format!("{id} {}", "x".repeat(usize::from(roll() % 3000))) } else { String::new() };
        let asked = lane.ask(id, body.into(), habit.opens).await;
        lane.clients.note(asked.map_err(|problem| format!("{id}: {problem}")));
    }
}

impl Lane {
    /// One request; sent again only where the server cannot have processed it.
    async fn ask(&self, id: u64, body: Bytes, opens: bool) -> Result<(), String> {
        loop {
            let connection = self.connection(opens).await.map_err(|error| format!("cannot connect: {error}"))?;
            // Who cannot send has not sent, and cannot on this connection.
            let Ok(mut ready) = connection.send.clone().ready().await else {
                connection.record.give_up();
                continue;
            };
            let method = if body.is_empty() { "GET" } else { "POST" };
            let request =
                Request::builder().method(method).uri(format!("http://test/{id}")).body(()).expect("a request");
            let Ok((response, mut stream)) = ready.send_request(request, body.is_empty()) else {
                connection.record.give_up();
                continue;
            };
            let number = u32::from(response.stream_id());
            connection.record.note(number, false);
            let answered = async || {
                if !body.is_empty() {
                    stream.send_data(body.clone(), true)?;
                }
                read(response.await?).await
            };
            match answered().await {
                Ok(answer) => {
                    connection.record.note(number, true);
                    let expected = if body.is_empty() { id.to_string().into() } else { body };
                    return if answer == *expected {
                        Ok(())
                    } else {
                        Err(format!("the answer to something else: {answer:?}"))
                    };
                }
                Err(_) if connection.record.is_unprocessed(number) => self.clients.outcome().sent_again += 1,
                Err(error) => {
                    return Err(format!("{error} on stream {number}, announced {:?}", connection.record.goaways()));
                }
            }
        }
    }

    /// A connection that was not asked to go away, as far as is known.
    async fn connection(&self, fresh: bool) -> Result<Connection, Problem> {
        let mut current = self.current.lock().await;
        match &*current {
            Some(connection) if !fresh && connection.record.is_usable() => Ok(connection.clone()),
            _ => Ok(current.insert(self.open().await?).clone()),
        }
    }

    async fn open(&self) -> Result<Connection, Problem> {
        let record = Arc::new(Record::default());
        let stream = TcpStream::connect(self.clients.addr).await?;
        stream.set_nodelay(true)?;
        let tap = Tap { stream, record: Arc::clone(&record), seen: Frames::default() };
        let (send, connection) = h2::client::handshake(tap).await?;
        tokio::spawn(connection);
        self.clients.outcome().connections.push(Arc::clone(&record));
        Ok(Connection { send, record })
    }
}

async fn read(response: axum::http::Response<h2::RecvStream>) -> Result<Vec<u8>, h2::Error> {
    let mut body = response.into_body();
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        answer.extend_from_slice(&data);
    }
    Ok(answer)
}

/// A stream whose GOAWAY frames are noted as they come; `h2` does not tell what they announce.
struct Tap {
    stream: TcpStream,
    record: Arc<Record>,
    seen: Frames,
}

/// Where in a sequence of frames the reader is (RFC 9113, section 4.1).
#[derive(Debug, Default)]
struct Frames {
    /// The head of the frame, and of a GOAWAY also the first of its payload.
    started: Vec<u8>,
    payload_left: usize,
}

impl Frames {
    const HEAD: usize = 9;
    const GOAWAY: u8 = 7;

    /// The last streams of the GOAWAY frames that end in `bytes`.
    fn goaways(&mut self, bytes: &[u8]) -> Vec<u32> {
        bytes.iter().filter_map(|byte| self.goaway(*byte)).collect()
    }

    fn goaway(&mut self, byte: u8) -> Option<u32> {
        self.started.push(byte);
        match self.started.len() {
            len if len < Self::HEAD => return None,
            Self::HEAD => {
                self.payload_left = self.started[..3].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            }
            _ => self.payload_left -= 1,
        }
        if self.payload_left > 0 {
            return None;
        }
        let frame = std::mem::take(&mut self.started);
        let last = frame.get(Self::HEAD..Self::HEAD + 4).filter(|_| frame[3] == Self::GOAWAY)?;
        Some(last.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let announced = self.seen.goaways(&buf.filled()[before..]);
        self.record.goaways.lock().expect("no client panics").extend(announced);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A random number.
fn roll() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    u16::try_from(RandomState::new().hash_one(0) >> 48).expect("16 bits")
}
