//! The client: writes and reads as the steps of a script have it, and then until nothing more comes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use socket2::Socket;
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

use super::{
    app::App,
    script::{Script, Step, Tail, Transport},
    wire::{Response, Sent},
    world::World,
};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an idle connection stays open when the service stops.
const KEEP_ALIVE_GRACE: Duration = Duration::from_secs(1);

/// Of the clock: stopped, time passes when no task has anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    Stopped,
    Real,
}

/// A client, and all that it got.
pub(super) struct Client {
    socket: Socket,
    time: Time,
    sent: Sent,
    written: usize,
    unread: Vec<u8>,
    pub(super) outcome: Outcome,
}

/// What a client got.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) responses: Vec<Response>,
    /// How many 100s came before the response of that number.
    pub(super) continues: Vec<usize>,
    /// What came after the switch of protocols.
    pub(super) switched: Option<Vec<u8>>,
    /// The other side has closed.
    pub(super) is_ended: bool,
    /// And in the middle of a response.
    pub(super) is_torn: bool,
    /// The last request of all, on a connection that stayed open: the generation that answered and the last one there was.
    pub(super) probed: Option<(Option<usize>, usize)>,
}

impl Client {
    /// A connection to `world`.
    pub(super) fn connect(script: &Script, time: Time, world: &World) -> Self {
        let (ours, theirs) = pair(script.transport);
        ours.set_nonblocking(true).unwrap();
        world.accept(theirs);
        let outcome = Outcome { continues: vec![0; script.requests.len() + 1], ..Outcome::default() };
        Self { socket: ours, time, sent: Sent::by(script), written: 0, unread: Vec::new(), outcome }
    }

    pub(super) async fn run(&mut self, script: &Script, world: &World, app: &App) -> Result<(), String> {
        for step in &script.steps {
            match *step {
                Step::Write(len) => drop(self.write(len)),
                Step::Read(len) => drop(self.read(len, script)?),
                Step::HandOver => world.hand_over(),
                Step::Tick => app.tick(1),
                Step::Yield(times) => {
                    for _ in 0..times {
                        yield_now().await;
                    }
                }
                Step::Settle => self.settle().await,
            }
        }
        app.tick(10_000);
        self.finish(script, world).await?;
        if matches!(script.tail, Tail::Nothing | Tail::Stop) && !self.outcome.is_ended {
            self.probe(script, world).await?;
        }
        Ok(())
    }

    /// Everything that is still to be written and read.
    async fn finish(&mut self, script: &Script, world: &World) -> Result<(), String> {
        let (mut shut, mut handed_over) = (false, false);
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            if matches!(script.tail, Tail::Preface { patient: true })
                && self.is_open(script.requests.len() - 1)
                && !handed_over
            {
                handed_over = true;
                world.hand_over();
                self.settle().await;
            }
            let wrote = self.write(usize::MAX);
            let read = self.read(usize::MAX, script)?;
            let all = script.requests.len();
            let is_written = self.written == self.sent.bytes.len();
            let is_answered = self.outcome.responses.len() >= all;
            let ends = match &script.tail {
                Tail::HalfClose => is_written,
                Tail::PartialHeaders => is_written && is_answered,
                Tail::Upgrade { len, .. } => {
                    is_written && self.outcome.switched.as_ref().is_some_and(|bytes| bytes.len() >= *len)
                }
                _ => false,
            };
            if ends && !shut {
                shut = true;
                let _ = self.socket.shutdown(Shutdown::Write);
            }
            if self.outcome.is_ended || matches!(script.tail, Tail::Nothing | Tail::Stop) && is_written && is_answered {
                break;
            }
            if wrote || read {
                deadline = Instant::now() + PATIENCE;
            } else if Instant::now() > deadline {
                return Err(format!("nothing comes any more; {} bytes are written", self.written));
            }
            self.settle().await;
        }
        // It may be about to close.
        for _ in 0..3 {
            self.settle().await;
        }
        self.read(usize::MAX, script)?;
        Ok(())
    }

    /// One more request, which the newest generation answers if the connection could move.
    async fn probe(&mut self, script: &Script, world: &World) -> Result<(), String> {
        world.hand_over();
        let deadline = Instant::now() + PATIENCE;
        while world.left_behind() > 0 && !self.outcome.is_ended {
            if Instant::now() > deadline {
                return Err("an idle connection does not move".to_owned());
            }
            self.settle().await;
            self.read(usize::MAX, script)?;
        }
        if matches!(script.tail, Tail::Stop) {
            world.stop();
            // At the last moment, where there is such a thing.
            sleep(if self.time == Time::Stopped { KEEP_ALIVE_GRACE } else { KEEP_ALIVE_GRACE / 20 }).await;
        }
        self.sent.bytes.extend(b"GET /r/999 HTTP/1.1\r\nhost: x\r\n\r\n");
        let before = self.outcome.responses.len();
        self.write(usize::MAX);
        let deadline = Instant::now() + PATIENCE;
        while self.outcome.responses.len() == before && !self.outcome.is_ended {
            if Instant::now() > deadline {
                return Err("the last request is not answered".to_owned());
            }
            self.settle().await;
            self.read(usize::MAX, script)?;
        }
        if self.outcome.responses.len() > before {
            let response = self.outcome.responses.pop().unwrap();
            if response.number("x-number") != Some(999) {
                return Err(format!("the last request was answered with {response:?}"));
            }
            self.outcome.probed = Some((response.number("x-generation"), world.last()));
        }
        Ok(())
    }

    async fn settle(&self) {
        match self.time {
            Time::Stopped => sleep(Duration::from_millis(10)).await,
            Time::Real => sleep(Duration::from_micros(200)).await,
        }
    }

    /// Writes what it may of the next `len` bytes, and says whether it could.
    fn write(&mut self, len: usize) -> bool {
        let before = self.written;
        let wanted = self.sent.bytes.len().min(self.written.saturating_add(len));
        let gate = self.sent.gates.iter().find(|(_, number)| !self.is_open(*number)).map(|(gate, _)| *gate);
        let until = gate.unwrap_or(wanted).min(wanted);
        while self.written < until {
            match self.socket.write(&self.sent.bytes[self.written..until]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Closed, or full.
                Err(_) => break,
            }
        }
        self.written > before
    }

    fn is_open(&self, number: usize) -> bool {
        let Outcome { responses, continues, switched, .. } = &self.outcome;
        responses.len() > number || continues[number] > 0 || switched.is_some()
    }

    /// Reads up to `len` bytes, and says whether there were any.
    fn read(&mut self, len: usize, script: &Script) -> Result<bool, String> {
        let (mut buf, mut left, mut any) = ([0; 16 * 1024], len, false);
        while left > 0 && !self.outcome.is_ended {
            let most = left.min(buf.len());
            match self.socket.read(&mut buf[..most]) {
                Ok(0) => self.outcome.is_ended = true,
                Ok(read) => {
                    self.unread.extend(&buf[..read]);
                    left -= read;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => self.outcome.is_ended = true,
            }
            any = true;
        }
        if any {
            self.parse(script)?;
        }
        Ok(any)
    }

    fn parse(&mut self, script: &Script) -> Result<(), String> {
        let outcome = &mut self.outcome;
        while outcome.switched.is_none() && !self.unread.is_empty() {
            let number = outcome.responses.len();
            let to_head = script.requests.get(number).is_some_and(|request| request.method() == "HEAD");
            let Some((response, len)) = Response::parse(&self.unread, outcome.is_ended, to_head)? else { break };
            self.unread.drain(..len);
            match response.status {
                100 => match outcome.continues.get_mut(number) {
                    Some(continues) => *continues += 1,
                    None => return Err("100 after all requests".to_owned()),
                },
                101 => {
                    outcome.switched = Some(Vec::new());
                    outcome.responses.push(response);
                }
                _ => outcome.responses.push(response),
            }
        }
        match &mut outcome.switched {
            Some(switched) => switched.append(&mut self.unread),
            None => outcome.is_torn = outcome.is_ended && !self.unread.is_empty(),
        }
        Ok(())
    }
}

/// Our end and theirs.
fn pair(transport: Transport) -> (Socket, OwnedFd) {
    match transport {
        Transport::Tcp => {
            thread_local!(static LISTENER: TcpListener = TcpListener::bind("127.0.0.1:0").unwrap());
            LISTENER.with(|listener| {
                let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (theirs, _) = listener.accept().unwrap();
                ours.set_nodelay(true).unwrap();
                theirs.set_nodelay(true).unwrap();
                (ours.into(), theirs.into())
            })
        }
        Transport::Unix | Transport::Narrow => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (ours, theirs) = (Socket::from(ours), Socket::from(theirs));
            if transport == Transport::Narrow {
                ours.set_send_buffer_size(1).unwrap();
                theirs.set_send_buffer_size(1).unwrap();
            }
            (ours, theirs.into())
        }
    }
}
