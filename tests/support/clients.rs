//! HTTP/1.1 clients that never send a request twice, and note what becomes of each.

use std::{
    env, io,
    net::SocketAddr,
    ops::Range,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    thread::Scope,
    time::{Duration, Instant},
};

use super::{http, wait::LIMIT};

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
    stopped: Mutex<bool>,
    stops: Condvar,
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
            stopped: Mutex::new(false),
            stops: Condvar::new(),
            outcome: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    /// One client that asks until it is stopped.
    pub(crate) fn run(&self) {
        let mut client = Client::new(self);
        while !self.is_stopped() {
            client.think();
            client.ask();
        }
    }

    /// One client that sends a request only when it is asked to, and leaves its connection idle in between.
    pub(crate) fn run_when_asked(&self, asked: &Receiver<()>) {
        let mut client = Client::new(self);
        while asked.recv().is_ok() {
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
        let (outcome, late) = self.answered.wait_timeout_while(outcome, LIMIT, waiting).expect("no client panics");
        assert!(!late.timed_out(), "the clients get no answers any more: {outcome:?}");
    }

    /// How many requests were sent; their numbers are 1 to that.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().expect("no client panics")
    }

    /// Returns after that time, or when the clients are stopped.
    fn pause(&self, time: Duration) {
        let going = self.stopped.lock().expect("no client panics");
        drop(self.stops.wait_timeout_while(going, time, |stopped| !*stopped));
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.lock().expect("no client panics")
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

/// Clients that send a request only when they are asked to.
#[derive(Debug)]
pub(crate) struct Idlers(Vec<Sender<()>>);

impl Idlers {
    pub(crate) fn start<'a>(scope: &'a Scope<'a, '_>, clients: &'a Clients, count: usize) -> Self {
        let start = |_| {
            let (sender, asked) = channel();
            scope.spawn(move || clients.run_when_asked(&asked));
            sender
        };
        Self((0..count).map(start).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Asks these for a request each.
    pub(crate) fn ask(&self, which: Range<usize>) {
        self.0[which].iter().for_each(Self::ask_one);
    }

    /// Asks all of them.
    pub(crate) fn ask_all(&self) {
        self.ask(0..self.len());
    }

    /// Asks each so many-th, and at another turn others.
    pub(crate) fn ask_in_turn(&self, turn: usize, of: usize) {
        self.0.iter().skip(turn % of).step_by(of).for_each(Self::ask_one);
    }

    fn ask_one(idler: &Sender<()>) {
        idler.send(()).expect("the client runs");
    }
}

/// How often a load does what it does: as the variable of the environment says, or `default`.
pub(crate) fn times(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |times| times.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        *self.0.stopped.lock().expect("no client panics") = true;
        self.0.stops.notify_all();
    }
}

struct Client<'a> {
    all: &'a Clients,
    connection: Option<http::Client>,
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
            let time = Duration::from_micros(self.roll() % longest);
            self.all.pause(time);
        }
    }

    /// One request, sent once.
    fn ask(&mut self) {
        let id = self.all.sent.fetch_add(1, Relaxed) + 1;
        let body = self.all.habit.posts.then(|| self.text());
        let began = Instant::now();
        let asked = self.connection().and_then(|client| ask(client, id, body.as_deref()));
        if !asked.as_ref().is_ok_and(|closes| !closes && !self.all.habit.opens) {
            self.connection = None;
        }
        self.all.note(asked.map(drop), id, began.elapsed());
    }

    /// The connection to ask on: the one there is, unless it is seen to be over.
    fn connection(&mut self) -> io::Result<&mut http::Client> {
        let usable = match &self.connection {
            None => false,
            Some(client) => !self.all.habit.looks || !client.is_over()?,
        };
        if !usable {
            self.connection = Some(http::Client::connect(self.all.addr)?);
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
fn ask(client: &mut http::Client, id: u64, body: Option<&str>) -> io::Result<bool> {
    let path = format!("/{id}");
    let expected = match body {
        Some(body) => format!("{id} {body}"),
        None => id.to_string(),
    };
    match body {
        Some(_) => client.post(&path, &expected)?,
        None => client.ask(&path)?,
    }
    let answer = client.answer()?;
    if answer.status != 200 || answer.body != expected.as_bytes() {
        return Err(io::Error::other(format!("the answer to something else: {answer:?}")));
    }
    Ok(answer.says_close())
}
