//! A line of processes: each leaves its connections to the next.

use std::{
    os::{fd::OwnedFd, unix::net},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, body::Body};
use tokio::net::UnixStream;

use super::super::super::{
    Connection,
    context::{MoveSink, RouteContext},
    service::HttpService,
    transferred::TransferredConnection,
};
use crate::{
    activation::ActivatedListeners,
    addr::{PeerAddr, UnixPeer},
    drain::{Counters, Drain, UnmovedReason},
    extract::Served,
    idle_connection::{Accepts, IdleConnection, Protocol, ResumableRecord},
    listener::ActivatedStream,
    server::{limits::Limits, reaper::Reaper},
};

/// A router as a connection has it.
#[derive(Clone)]
struct Web(Router);

impl HttpService for Web {
    type Body = Body;
    type Tower = Router;

    fn tower(&self) -> Router {
        self.0.clone()
    }
}

/// The processes, the last of which accepts.
#[derive(Clone)]
pub(super) struct Line(Arc<Shared>);

struct Shared {
    generations: Mutex<Vec<Generation>>,
    make: Box<dyn Fn(usize) -> Router + Send + Sync>,
    limits: Limits,
    /// What was sent from one to the next.
    moved: Mutex<Vec<Protocol>>,
    change: Mutex<Option<fn(&mut ResumableRecord)>>,
    /// What is sent is served where it was, until it can close.
    refuses: AtomicBool,
}

struct Generation {
    context: Arc<RouteContext>,
    router: Router,
}

/// Leads to the next process.
struct Next {
    line: Line,
    number: usize,
    accepts: Accepts,
}

impl MoveSink for Next {
    fn send(&self, connection: IdleConnection) -> Result<(), IdleConnection> {
        let refuses = self.line.0.refuses.load(Ordering::Relaxed);
        self.line.adopt(connection, self.number - usize::from(refuses), refuses);
        Ok(())
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }
}

impl Line {
    /// The first process; each has the router that `make` makes for its number.
    pub(super) fn new(make: impl Fn(usize) -> Router + Send + Sync + 'static) -> Self {
        Self::with(Limits::default(), make)
    }

    pub(super) fn with(limits: Limits, make: impl Fn(usize) -> Router + Send + Sync + 'static) -> Self {
        Self::build(limits, Accepts { resumable: true, ..Accepts::default() }, Box::new(make))
    }

    /// The first process, which leaves its connections to one that takes such.
    #[cfg(feature = "websocket")]
    pub(super) fn new_with(accepts: Accepts, make: impl Fn(usize) -> Router + Send + Sync + 'static) -> Self {
        Self::build(Limits::default(), accepts, Box::new(make))
    }

    fn build(limits: Limits, accepts: Accepts, make: Box<dyn Fn(usize) -> Router + Send + Sync>) -> Self {
        let shared = Shared {
            generations: Mutex::default(),
            make,
            limits,
            moved: Mutex::default(),
            change: Mutex::default(),
            refuses: AtomicBool::new(false),
        };
        let this = Self(Arc::new(shared));
        this.add(accepts);
        this
    }

    /// Changes what is sent from now on.
    pub(super) fn change_records(&self, change: fn(&mut ResumableRecord)) {
        *self.0.change.lock().unwrap() = Some(change);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Generation>> {
        self.0.generations.lock().unwrap()
    }

    /// Adds a process whose connections move to one that takes such.
    fn add(&self, accepts: Accepts) {
        let number = self.lock().len();
        let (drain, name) = (Drain::new(), Arc::<str>::from("http"));
        let activated = ActivatedListeners::from_env().unwrap();
        let context = RouteContext {
            served: Served::new(Arc::clone(&name), &activated, &drain),
            drain,
            counters: Arc::new(Counters::new(name)),
            reaper: Arc::new(Reaper::new(&self.0.limits)),
            limits: self.0.limits.clone(),
            sink: Arc::new(Next { line: self.clone(), number: number + 1, accepts }),
            #[cfg(feature = "tls")]
            encryption: None,
        };
        let reaper = Arc::clone(&context.reaper);
        tokio::spawn(async move { reaper.run().await });
        self.lock().push(Generation { context: Arc::new(context), router: (self.0.make)(number) });
    }

    /// The number of the last process.
    pub(super) fn last(&self) -> usize {
        self.lock().len() - 1
    }

    /// How many connections the process of that number has.
    pub(super) fn open(&self, number: usize) -> usize {
        self.lock()[number].context.drain.connections().len()
    }

    /// Why connections of the process of that number have not gone on.
    pub(super) fn unmoved(&self, number: usize) -> Vec<(UnmovedReason, u64)> {
        let stats = self.lock()[number].context.counters.stats();
        stats.unmoved_by_reason.iter().filter(|(_, count)| *count > 0).collect()
    }

    /// What moved so far.
    pub(super) fn moved(&self) -> Vec<Protocol> {
        self.0.moved.lock().unwrap().clone()
    }

    /// Another process starts, and the last one leaves its connections to it.
    pub(super) fn hand_over(&self) {
        let drain = self.drain();
        self.add(Accepts { resumable: true, ..Accepts::default() });
        drain.start_succession(true);
    }

    /// The last process leaves its connections, and gets them back: with another drain, and what it was before.
    #[cfg(feature = "websocket")]
    pub(super) fn hand_over_and_back(&self) {
        let (drain, router) = (self.drain(), self.lock().last().unwrap().router.clone());
        self.add(Accepts { resumable: true, ..Accepts::default() });
        self.lock().last_mut().unwrap().router = router;
        drain.start_succession(true);
    }

    /// The last process ends.
    #[cfg(feature = "websocket")]
    pub(super) fn stop(&self) {
        self.drain().start();
    }

    /// The drain of the last process.
    fn drain(&self) -> Drain {
        self.lock().last().unwrap().context.drain.clone()
    }

    /// A connection to the last process.
    pub(super) fn connect(&self) -> UnixStream {
        let (ours, theirs) = net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        self.accept(theirs.into());
        UnixStream::from_std(ours).unwrap()
    }

    /// Serves a connection in the last process.
    pub(super) fn accept(&self, stream: OwnedFd) {
        let stream = ActivatedStream::register(stream).unwrap();
        let (context, router) = self.generation(self.last());
        let peer = PeerAddr::Unix(UnixPeer::default());
        tokio::spawn(Connection::new(stream, peer, Web(router), context, None).serve());
    }

    /// From now on a process gets back what it leaves, and is to close it.
    #[cfg(feature = "websocket")]
    pub(super) fn refuse(&self) {
        self.0.refuses.store(true, Ordering::Relaxed);
    }

    /// Serves in the process of that number what another has left.
    fn adopt(&self, mut connection: IdleConnection, number: usize, finishes: bool) {
        self.0.moved.lock().unwrap().push(connection.protocol.clone());
        if let (Protocol::Resumable(record), Some(change)) = (&mut connection.protocol, *self.0.change.lock().unwrap())
        {
            change(record);
        }
        // What this process holds for it stays here, as it does when it goes to another process.
        connection.reservation = None;
        let (context, router) = self.generation(number);
        let arrival = TransferredConnection::register(connection).unwrap();
        let connection = Connection::resumed(arrival, Web(router), context, None);
        if finishes {
            connection.finish_here();
        }
        tokio::spawn(connection.serve());
    }

    fn generation(&self, number: usize) -> (Arc<RouteContext>, Router) {
        let generations = self.lock();
        (Arc::clone(&generations[number].context), generations[number].router.clone())
    }
}
