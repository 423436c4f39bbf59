//! WebSockets: a service that counts the messages of a connection, and clients that send fragments and pings.
//!
//! A message is its number, which no other message has, and letters. The answer is how many messages the connection has had, the
//! process id, and the message.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::{SocketAddr, TcpStream},
    process,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Router,
    extract::{
        State,
        ws::{Message as Received, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::get,
};
use axum_activation::{handoff::Snapshot, resume::Resume};
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::{
    self, Error, Message,
    error::ProtocolError,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use super::{
    super::{place::Place, wait::LIMIT},
    calls::{Calls, Load},
    routes::Witness,
};

/// A client thinks up to so long between two batches of messages.
const THINK: Duration = Duration::from_millis(100);
/// Messages of a batch, at most.
const BATCH: u64 = 4;

pub(crate) fn routes(witness: &Witness) -> Router {
    Router::new().route("/real/count", get(upgrade)).with_state(witness.clone())
}

async fn upgrade(State(witness): State<Witness>, upgrade: WebSocketUpgrade, resume: Resume) -> Response {
    upgrade.on_upgrade(|socket| count(socket, witness, resume))
}

/// Leaves at a handoff, and goes on counting in the next process.
async fn count(mut socket: WebSocket, witness: Witness, resume: Resume) {
    let mut count = resume.state().and_then(|state| state.bytes()[..].try_into().ok()).map_or(0, u64::from_be_bytes);
    loop {
        let message = tokio::select! {
            // Though this is looked at first, no message is left behind.
            biased;
            () = resume.requested() => return leave(socket, &resume, count).await,
            () = resume.closing() => return,
            message = socket.recv() => message,
        };
        match message {
            Some(Ok(Received::Text(text))) => {
                count += 1;
                witness.note(text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0));
                let answer = format!("{count} {} {text}", process::id());
                if socket.send(Received::text(answer)).await.is_err() {
                    return;
                }
            }
            Some(Ok(Received::Ping(_))) => {}
            _ => return,
        }
    }
}

async fn leave(mut socket: WebSocket, resume: &Resume, count: u64) {
    let flushed = async move { socket.flush().await.map(|()| socket).map_err(io::Error::other) };
    let left = resume.leave_after(flushed, Snapshot::new(1, count.to_be_bytes().to_vec())).await;
    left.unwrap_or_else(|error| eprintln!("a WebSocket cannot leave: {error}"));
}

/// So many clients, each with its connection. Each answer must be the next one in order; each ping has its pong. Messages are
/// numbered from `first`.
pub(crate) fn clients(place: &Place, addr: SocketAddr, count: usize, first: u64) -> Load {
    let next = AtomicU64::new(first);
    let load = Load::start("WebSockets", place, count, move |number, calls| {
        let mut client = Client { next: &next, sent: 0, by: None, dice: RandomState::new().hash_one(number) | 1 };
        while !calls.is_stopped() {
            if let Err(problem) = client.run(addr, calls) {
                calls.note_lost(format!("client {number} of {}: {problem}", client.by.unwrap_or_default()));
            }
        }
    });
    load.with_opened(count)
}

/// What says in a reason that a client got something else than it must, and not merely the end of its connection.
pub(crate) const WRONG: &str = "got ";

struct Client<'a> {
    /// The number of the next message of all clients.
    next: &'a AtomicU64,
    /// Messages on this connection.
    sent: u64,
    /// The process that has answered last on this connection.
    by: Option<u32>,
    dice: u64,
}

/// What is sent at once, and what must come for it.
#[derive(Default)]
struct Batch {
    sent: Vec<Message>,
    /// How many messages the connection has had with it, and each message.
    answers: Vec<(u64, String)>,
    pongs: Vec<String>,
}

impl Client<'_> {
    /// One connection, until the clients are stopped.
    fn run(&mut self, addr: SocketAddr, calls: &Calls) -> Result<(), Problem> {
        (self.sent, self.by) = (0, None);
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let upgraded = tungstenite::client("ws://test/real/count", stream);
        let (mut socket, _) = upgraded.map_err(|error| Problem(format!("no upgrade: {error}")))?;
        calls.note_opened();
        while !calls.is_stopped() {
            calls.pause(THINK.mul_f64(f64::from(u16::try_from(self.roll(1000)).expect("a small number")) / 1000.0));
            let batch = self.batch();
            batch.sent.iter().try_for_each(|message| socket.write(message.clone()))?;
            socket.flush()?;
            let (mut answers, mut pongs) = (batch.answers.iter(), batch.pongs.iter());
            while answers.len() > 0 || pongs.len() > 0 {
                match socket.read()? {
                    Message::Text(answer) => {
                        self.check(&answer, answers.next())?;
                        calls.note_answered(1);
                    }
                    Message::Pong(pong) if pongs.next().is_some_and(|expected| expected.as_bytes() == &*pong) => {}
                    other => return Err(Problem::wrong(other)),
                }
            }
        }
        close(socket)
    }

    /// Checks `COUNT PID MESSAGE`.
    fn check(&mut self, answer: &str, expected: Option<&(u64, String)>) -> Result<(), Problem> {
        let mut words = answer.splitn(3, ' ');
        let (count, by, text) = (words.next(), words.next(), words.next());
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        match expected {
            Some((expected, message)) if number(count) == Some(*expected) && text == Some(message) => {
                self.by = number(by).and_then(|pid| pid.try_into().ok());
                Ok(())
            }
            _ => Err(Problem(format!("{WRONG}{answer:.60?}, not {expected:.60?}"))),
        }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..=self.roll(BATCH) {
            self.sent += 1;
            let filling = usize::try_from(self.roll(3000)).expect("not so long");
            let text = format!("{} {}", self.next.fetch_add(1, Relaxed), "x".repeat(filling));
            match self.roll(3) {
                0 => batch.sent.push(Message::text(text.clone())),
                1 => self.fragment(&text, false, &mut batch),
                _ => self.fragment(&text, true, &mut batch),
            }
            batch.answers.push((self.sent, text));
        }
        batch
    }

    /// Up to four fragments, with pings between them or not.
    fn fragment(&mut self, text: &str, pings: bool, batch: &mut Batch) {
        let size = text.len() / usize::try_from(1 + self.roll(3)).expect("a small number") + 1;
        let parts: Vec<_> = text.as_bytes().chunks(size).collect();
        for (at, part) in parts.iter().enumerate() {
            let code = if at == 0 { Data::Text } else { Data::Continue };
            let frame = Frame::message(part.to_vec(), OpCode::Data(code), at + 1 == parts.len());
            batch.sent.push(Message::Frame(frame));
            if pings {
                let ping = format!("{} {at}", self.sent);
                batch.sent.push(Message::Ping(ping.clone().into()));
                batch.pongs.push(ping);
            }
        }
    }

    /// A random number below `end` (xorshift).
    fn roll(&mut self, end: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 16) % end
    }
}

/// Closes in order.
fn close(mut socket: tungstenite::WebSocket<TcpStream>) -> Result<(), Problem> {
    socket.close(None)?;
    loop {
        match socket.read() {
            Ok(Message::Close(_)) => {}
            Err(Error::ConnectionClosed | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return Ok(());
            }
            other => return Err(Problem::wrong(other)),
        }
    }
}

/// Why a client has lost its connection.
struct Problem(String);

impl Problem {
    fn wrong(what: impl fmt::Debug) -> Self {
        Self(format!("{WRONG}{what:.80?}"))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
