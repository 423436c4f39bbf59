//! HTTP/1.1 clients that never send a request twice, and note what becomes of each.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::{
    io,
    net::SocketAddr,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::Receiver,
    },
    thread,
    time::{Duration, Instant},
};

use super::wire::Wire;

/// How long the clients may take until enough of them were answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// How clients ask.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habit {
    /// POST with a body, not GET.
    pub(crate) posts: bool,
    /// Pauses before a request, for a random time up to that.
    pub(crate) thinks: Duration,
    /// Opens a connection for each request.
    pub(crate) opens: bool,
    /// Looks for the end of its connection before it sends.
    pub(crate) looks: bool,
}

/// What became of the requests of all clients of one server.
#[derive(Debug)]
pub(crate) struct Clients {
    addr: SocketAddr,
    habit: Habit,
    sent: AtomicU64,
    stopped: AtomicBool,
    outcome: Mutex<Outcome>,
    answered: Condvar,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// Connections that were opened.
    pub(crate) opened: u64,
    /// What went wrong, for each request that was lost.
    pub(crate) lost: Vec<String>,
    /// The longest that an answer took.
    pub(crate) slowest: Duration,
}

/// Stops the clients when dropped, so that a failing test does not wait for them for ever.
#[derive(Debug)]
pub(crate) struct StopOnDrop<'a>(&'a Clients);

impl Clients {
    pub(crate) fn new(addr: SocketAddr, habit: Habit) -> Self {
        Self {
            addr,
            habit,
            sent: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            outcome: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    /// One client that asks until it is stopped.
    pub(crate) fn run(&self) {
        let mut client = Client::new(self);
        while !self.stopped.load(Relaxed) {
            client.think();
            client.ask();
        }
    }

    /// One client that asks only when it is told to, and leaves its connection idle in between.
    pub(crate) fn run_when_told(&self, told: &Receiver<()>) {
        let mut client = Client::new(self);
        while told.recv().is_ok() {
            client.ask();
        }
    }

    pub(crate) fn stop_on_drop(&self) -> StopOnDrop<'_> {
        StopOnDrop(self)
    }

    /// Returns when `more` requests have been answered.
    pub(crate) fn wait_for(&self, more: u64) {
        let outcome = self.outcome();
        let enough = outcome.answered + more;
        let waiting = |outcome: &mut Outcome| outcome.answered < enough && outcome.lost.is_empty();
        let (outcome, late) = self.answered.wait_timeout_while(outcome, PATIENCE, waiting).expect("no client panics");
        assert!(!late.timed_out(), "the clients get no answers any more: {outcome:?}");
    }

    /// How many requests were sent; their numbers are 1 to that.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().expect("no client panics")
    }

    fn note(&self, asked: io::Result<()>, id: u64, took: Duration) {
        let mut outcome = self.outcome();
        outcome.slowest = outcome.slowest.max(took);
        match asked {
            Ok(()) => outcome.answered += 1,
            Err(error) => outcome.lost.push(format!("{id}: {error}")),
        }
        drop(outcome);
        self.answered.notify_all();
    }
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Relaxed);
    }
}

struct Client<'a> {
    all: &'a Clients,
    connection: Option<Wire>,
    dice: u64,
}

impl<'a> Client<'a> {
    fn new(all: &'a Clients) -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self { all, connection: None, dice: RandomState::new().hash_one(0) | 1 }
    }

    fn think(&mut self) {
        let longest = u64::try_from(self.all.habit.thinks.as_micros()).expect("a short time");
        if longest > 0 {
            thread::sleep(Duration::from_micros(self.roll() % longest));
        }
    }

    /// One request, sent once.
    fn ask(&mut self) {
        let id = self.all.sent.fetch_add(1, Relaxed) + 1;
        let body = self.all.habit.posts.then(|| self.text());
        let began = Instant::now();
        let asked = self.connection().and_then(|wire| ask(wire, id, body.as_deref()));
        if !asked.as_ref().is_ok_and(|closes| !closes && !self.all.habit.opens) {
            self.connection = None;
        }
        self.all.note(asked.map(drop), id, began.elapsed());
    }

    /// The connection to ask on: the one there is, unless it is seen to be over.
    fn connection(&mut self) -> io::Result<&mut Wire> {
        let usable = match &self.connection {
            None => false,
            Some(wire) => !self.all.habit.looks || !wire.is_over()?,
        };
        if !usable {
            self.connection = Some(Wire::connect(self.all.addr)?);
            self.all.outcome().opened += 1;
        }
        Ok(self.connection.as_mut().expect("just opened"))
    }

    /// Up to 3,000 random letters, so that no part of it could be that of another request.
    fn text(&mut self) -> String {
        let length = self.roll() % 3000;
        let letter = |roll: u64| char::from(b'A' + u8::try_from(roll >> 32 & 63).expect("six bits"));
        (0..length).map(|_| letter(self.roll())).collect()
    }

    /// The next random number (xorshift).
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }
}

/// Asks, and says whether the connection ends with the answer, which must be that to this request.
fn ask(wire: &mut Wire, id: u64, body: Option<&str>) -> io::Result<bool> {
    let path = format!("/{id}");
    let expected = match body {
        Some(body) => format!("{id} {body}"),
        None => id.to_string(),
    };
    match body {
        Some(_) => wire.post(&path, &expected)?,
        None => wire.ask(&path)?,
    }
    let answer = wire.answer()?;
    if answer.status != 200 || answer.body != expected.as_bytes() {
        return Err(io::Error::other(format!("the answer to something else: {answer:?}")));
    }
    Ok(answer.says_close())
}
