//! One route that hands its HTTP/2 connections over to itself, as often as a test wants.

use std::{
    os::{fd::OwnedFd, unix::net},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::{
    super::super::{Connection, context::MoveSink, context::RouteContext, transferred::TransferredConnection},
    handler::Handler,
};
use crate::{
    activation::ActivatedListeners,
    addr::{PeerAddr, UnixPeer},
    drain::{Counters, Drain},
    extract::Served,
    idle_connection::{Accepts, Http2Record, IdleConnection, Protocol},
    listener::ActivatedStream,
    server::{
        limits::{Http2Options, Limits},
        reaper::Reaper,
    },
};

/// What each generation has.
#[derive(Clone)]
pub(super) struct Route {
    shared: Arc<Shared>,
}

struct Shared {
    handler: Handler,
    /// Of the generation that accepts, and of those that come after it.
    current: Mutex<Arc<RouteContext>>,
    limits: Mutex<Limits>,
    takes_http2: bool,
    moves: AtomicUsize,
    /// When the last generation began, and how long after that connections moved.
    handed_over: Mutex<Instant>,
    times: Mutex<Vec<Duration>>,
    /// What the last record was, and how much was held with it.
    last: Mutex<Option<(Http2Record, Vec<u8>)>>,
    /// Changes a record under way.
    tamper: Mutex<Option<fn(&mut Http2Record)>>,
}

/// The sink of one generation.
struct Next(Route);

impl Route {
    pub(super) fn new(options: Http2Options) -> Self {
        Self::with(options, true)
    }

    /// As [`new`](Self::new); the next process may not take HTTP/2.
    pub(super) fn with(options: Http2Options, takes_http2: bool) -> Self {
        let limits = Limits { http2: options, ..Limits::default() };
        let nothing = |_: IdleConnection| Ok(());
        let shared = Shared {
            handler: Handler::new(),
            current: Mutex::new(context(&limits, Arc::new(nothing))),
            limits: Mutex::new(limits),
            takes_http2,
            moves: AtomicUsize::new(0),
            handed_over: Mutex::new(Instant::now()),
            times: Mutex::default(),
            last: Mutex::default(),
            tamper: Mutex::default(),
        };
        let route = Self { shared: Arc::new(shared) };
        route.renew();
        route
    }

    pub(super) fn handler(&self) -> &Handler {
        &self.shared.handler
    }

    /// The settings of generations to come.
    pub(super) fn set_options(&self, options: Http2Options) {
        self.shared.limits.lock().unwrap().http2 = options;
    }

    pub(super) fn tamper(&self, tamper: fn(&mut Http2Record)) {
        *self.shared.tamper.lock().unwrap() = Some(tamper);
    }

    /// How often a connection has moved.
    pub(super) fn moves(&self) -> usize {
        self.shared.moves.load(Ordering::Relaxed)
    }

    /// What the last one that moved had.
    pub(super) fn last(&self) -> (Http2Record, Vec<u8>) {
        self.shared.last.lock().unwrap().clone().expect("one has moved")
    }

    /// How long after the beginning of a generation the median, 95 and 99 of 100, and the last of the connections moved.
    pub(super) fn slowest(&self) -> [Duration; 4] {
        let mut times = self.shared.times.lock().unwrap().clone();
        times.sort_unstable();
        [50, 95, 99, 100].map(|percent| times[(times.len() - 1) * percent / 100])
    }

    /// A new client's stream.
    pub(super) fn connect(&self) -> UnixStream {
        let (ours, theirs) = net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        self.accept(theirs.into());
        UnixStream::from_std(ours).unwrap()
    }

    pub(super) fn accept(&self, stream: OwnedFd) {
        let stream = ActivatedStream::register(stream).unwrap();
        let peer = PeerAddr::Unix(UnixPeer::default());
        let context = self.current();
        tokio::spawn(Connection::new(stream, peer, self.shared.handler.clone(), context, None).serve());
    }

    pub(super) fn current(&self) -> Arc<RouteContext> {
        Arc::clone(&self.shared.current.lock().unwrap())
    }

    /// The next generation begins; connections of the last one go there when they can.
    pub(super) fn hand_over(&self) -> Arc<RouteContext> {
        let old = self.renew();
        *self.shared.handed_over.lock().unwrap() = Instant::now();
        old.drain.start_succession(true);
        old
    }

    fn renew(&self) -> Arc<RouteContext> {
        let next = context(&self.shared.limits.lock().unwrap(), Arc::new(Next(self.clone())));
        std::mem::replace(&mut self.shared.current.lock().unwrap(), next)
    }

    /// Hands over, and waits until a connection has moved.
    pub(super) async fn moved(&self) {
        let before = self.moves();
        self.hand_over();
        self.until(|route| route.moves() > before).await;
    }

    /// Waits until this holds.
    pub(super) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < limit, "it does not happen");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl MoveSink for Next {
    fn send(&self, mut connection: IdleConnection) -> Result<(), IdleConnection> {
        let shared = &self.0.shared;
        connection.reservation = None;
        if let Protocol::Http2(record) = &mut connection.protocol {
            let sent = postcard::to_allocvec(&**record).unwrap();
            **record = postcard::from_bytes(&sent).unwrap();
            if let Some(tamper) = *shared.tamper.lock().unwrap() {
                tamper(record);
            }
            *shared.last.lock().unwrap() = Some(((**record).clone(), connection.read_ahead.to_vec()));
            shared.moves.fetch_add(1, Ordering::Relaxed);
            shared.times.lock().unwrap().push(shared.handed_over.lock().unwrap().elapsed());
        }
        let arrival = TransferredConnection::register(connection).unwrap();
        tokio::spawn(Connection::resumed(arrival, shared.handler.clone(), self.0.current(), None).serve());
        Ok(())
    }

    fn accepts(&self) -> Accepts {
        Accepts { http2: self.0.shared.takes_http2, ..Accepts::default() }
    }
}

fn context(limits: &Limits, sink: Arc<dyn MoveSink>) -> Arc<RouteContext> {
    let (drain, name) = (Drain::new(), Arc::<str>::from("http"));
    let activated = ActivatedListeners::from_env().unwrap();
    Arc::new(RouteContext {
        served: Served::new(Arc::clone(&name), &activated, &drain),
        drain,
        counters: Arc::new(Counters::new(name)),
        reaper: Arc::new(Reaper::new(limits)),
        limits: limits.clone(),
        sink,
        #[cfg(feature = "tls")]
        encryption: None,
    })
}
