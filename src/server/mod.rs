//! A router per name: accept, serve, and end in order.

use std::{
    fmt,
    future::{Future, IntoFuture, pending},
    mem,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

mod accept;
mod connection;
mod fd_store;
mod handoff;
mod incoming;
mod limits;
mod notify;
mod reaper;
mod route;
mod routes;
mod running;
mod signals;
mod sink;
mod succession;

pub use self::incoming::IncomingConnection;
pub use self::limits::Http2Options;
use self::route::{IntoRoute, Route};
use self::{
    limits::{Limits, MaxAge},
    notify::Announcer,
    routes::ServerContext,
    signals::Signals,
};
use crate::{
    activation::{ActivatedListeners, ActivatedSocket},
    drain::{Drain, DrainReport, Stats},
    error::{Error, Kind},
    listener::ActivatedListener,
};

/// Serves a router per name, until a signal ends it.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use axum::{Router, routing::get};
/// use axum_activation::{ActivatedListeners, Server};
///
/// let activated = ActivatedListeners::builder()
///     .fallback("http", "127.0.0.1:8080")
///     .fallback("admin", "unix:/run/app/admin.sock")
///     .from_env()?;
///
/// let report = Server::new(activated)
///     .serve("http", Router::new().route("/", get(|| async { "hello" })))
///     .serve("admin", Router::new().route("/status", get(|| async { "fine" })))
///     .run()
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
///
/// Every request carries its [`ListenerName`](crate::ListenerName), the [`Drain`], and the [`ActivatedListeners`] to be shown, for a handler
/// that extracts them. The client is `ConnectInfo<`[`PeerAddr`](crate::PeerAddr)`>`, and `ConnectInfo<SocketAddr>` beside it if it came
/// through TCP, so handlers and layers that are written for [`axum::serve`](fn@axum::serve) work unchanged. The first bytes of a connection show
/// whether it speaks HTTP/1.1 or HTTP/2 (with prior knowledge).
///
/// ```
/// use std::net::SocketAddr;
///
/// use axum::{Router, extract::ConnectInfo, routing::get};
/// use axum_activation::{ActivatedListeners, Server};
///
/// async fn client(ConnectInfo(addr): ConnectInfo<SocketAddr>) -> String {
///     format!("you are {addr}")
/// }
///
/// # fn main() -> Result<(), axum_activation::Error> {
/// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
/// let server = Server::new(activated).serve("http", Router::new().route("/", get(client)));
/// # drop(server);
/// # Ok(())
/// # }
/// ```
///
/// One server of a process hands over at SIGHUP and SIGUSR2, so a second one that runs at the same time fails, unless
/// [`without_handoff_signals`](Self::without_handoff_signals) is set. This holds for tests, too, that run several servers in one process.
#[must_use = "a server does nothing until it is run"]
pub struct Server {
    activated: ActivatedListeners,
    routes: Vec<(String, Route)>,
    drain: Drain,
    stats: Stats,
    limits: Limits,
    drain_timeout: Duration,
    notify: notify::Settings,
    handoff: handoff::Settings,
    fd_store: Option<usize>,
    allow_unserved: bool,
    signals: Signals,
    /// The future of [`with_graceful_shutdown`](Server::with_graceful_shutdown). Only the mutex makes it `Sync`; nothing locks it.
    shutdown: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Server {
    /// A server for the sockets of `activated`, without a route yet.
    pub fn new(activated: ActivatedListeners) -> Self {
        Self {
            activated,
            routes: Vec::new(),
            drain: Drain::new(),
            stats: Stats::default(),
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(30),
            notify: notify::Settings::default(),
            handoff: handoff::Settings::default(),
            fd_store: None,
            allow_unserved: false,
            signals: Signals::wanted(),
            shutdown: Mutex::default(),
        }
    }

    /// Serves `service` on every socket of that name.
    ///
    /// `service` is a [`Router`](axum::Router), a `MethodRouter`, a handler's `into_service()`, any tower service from requests
    /// to responses, or a make-service from [`IncomingConnection`] to one, such as `into_make_service_with_connect_info::<PeerAddr>()`.
    pub fn serve<M>(mut self, name: impl Into<String>, service: impl IntoRoute<M>) -> Self {
        self.routes.push((name.into(), service.into_route()));
        self
    }

    /// How long requests in flight may take to finish once the drain has started; what is left then is aborted. 30 s by default.
    ///
    /// Keep `TimeoutStopSec=` of the unit above it, or the service manager kills first.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// How long an idle HTTP/1 connection may send one more request once the drain has started and the
    /// [`lame_duck`](Self::lame_duck) is over, before it is closed; 1 s by default.
    ///
    /// The answer to that request says `Connection: close`. A client that is about to send when the service stops loses
    /// nothing, unless it thinks for longer than that. So keep it above the time for which a proxy in front keeps idle connections,
    /// where that does not ask readiness.
    pub fn keep_alive_grace(mut self, time: Duration) -> Self {
        self.limits.keep_alive_grace = time;
        self
    }

    /// How long to go on accepting once the drain has started; 0 by default.
    ///
    /// Readiness turns at once, so a load balancer that polls it has this long to notice before connects are refused.
    /// Every response carries `Connection: close` meanwhile, and no idle connection is closed: it may be about to send on it.
    /// It is part of [`drain_timeout`](Self::drain_timeout).
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.limits.lame_duck = time;
        self
    }

    /// How long the head of a request may take, from its first byte; 30 s by default, `None` for ever. Answered with 408.
    pub fn header_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.header_timeout = limit.into();
        self
    }

    /// How long a connection may be without a request, and at most an eighth longer; 120 s by default, `None` for ever.
    ///
    /// Keep it above that of a load balancer in front, or that one sends requests into connections that end.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.idle_timeout = limit.into();
        self
    }

    /// How many connections each route may have open, 1 at least; the rest wait in the kernel's queue. No limit by default.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.max_connections = Some(connections);
        self
    }

    /// Ends each connection when it is `age` old and up to `jitter` more, between two requests; never by default.
    ///
    /// Spreads clients over instances that came later.
    pub fn max_connection_age(mut self, age: Duration, jitter: Duration) -> Self {
        self.limits.max_age = Some(MaxAge { age, jitter });
        self
    }

    /// Settings of HTTP/2 connections.
    pub fn http2(mut self, options: Http2Options) -> Self {
        self.limits.http2 = options;
        self
    }

    /// The drain of this server, to begin it from code, to watch its phase, or to spawn tasks that it waits for.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Drains together with others: `drain` is used in place of the server's own.
    pub fn with_drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Live statistics, while the server runs and after.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Lets listening sockets be that no route serves; their clients connect and hang, unless another server of this process serves them.
    /// Those that the predecessor had bound stay open.
    pub fn allow_unserved(mut self) -> Self {
        self.allow_unserved = true;
        self
    }

    /// Also drains when `signal` resolves, as `with_graceful_shutdown` of [`axum::serve`](fn@axum::serve).
    ///
    /// SIGTERM and SIGINT go on to drain, unless [`without_signals`](Self::without_signals) is set. A `signal` that panics counts as
    /// resolved. The last call wins.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use axum::Router;
    /// use axum_activation::{ActivatedListeners, Server};
    /// use tokio_util::sync::CancellationToken;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let stop = CancellationToken::new();
    /// # stop.cancel();
    /// let report = Server::new(activated)
    ///     .serve("http", Router::new())
    ///     .with_graceful_shutdown(stop.clone().cancelled_owned())
    ///     .run()
    ///     .await?;
    /// assert!(report.is_clean());
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Mutex::new(Some(Box::pin(signal)));
        self
    }

    /// Leaves SIGTERM and SIGINT to the program, which ends the server with [`with_graceful_shutdown`](Self::with_graceful_shutdown) or its
    /// [`drain`](Self::drain).
    ///
    /// SIGHUP and SIGUSR2 still hand over; [`without_handoff_signals`](Self::without_handoff_signals) leaves those two to the program.
    pub fn without_signals(mut self) -> Self {
        self.signals = Signals::none();
        self
    }

    /// Serves until SIGTERM or SIGINT, then drains: stops accepting, finishes what is in flight, aborts what is left after
    /// [`drain_timeout`](Self::drain_timeout). A second signal aborts at once; one within a second of the first is a repeat of it.
    ///
    /// With the one connection of `Accept=yes` it returns when that is served.
    ///
    /// # Errors
    ///
    /// Before anything is served: no route, two of one name, a route whose name nobody passed or bound or whose socket is no
    /// stream socket or taken, or a listening socket that was passed and that no route serves, unless
    /// [`allow_unserved`](Self::allow_unserved); another server of this process hands over at SIGHUP, too
    /// ([`without_handoff_signals`](Self::without_handoff_signals)); or there is no tokio runtime. No socket has been taken then.
    ///
    /// # Panics
    ///
    /// At once in a runtime without I/O or without timers: `enable_all` of its builder gives it both.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops accepting and aborts every connection.
    pub async fn run(mut self) -> Result<DrainReport, Error> {
        let shutdown = mem::take(&mut self.shutdown).into_inner().unwrap_or_else(PoisonError::into_inner);
        let shutdown = shutdown.unwrap_or_else(|| Box::pin(pending()));
        let (drain, stats) = (self.drain.clone(), self.stats.clone());
        let is_successor = self.activated.is_spawned();
        let announcer = Announcer::start(is_successor, &self.notify, drain, stats, self.drain_timeout);
        let ended = self.run_announced(shutdown, &announcer).await;
        announcer.finish(&ended).await;
        ended
    }

    /// Takes every socket and checks all there is to check before the first connection is accepted.
    fn take(self) -> Result<(ServerContext, Vec<(Route, ActivatedListener)>), Error> {
        let common = self.common();
        if let [(name, _)] = &self.routes[..] {
            common.activated.name_unnamed(name);
        }
        let routes = match common.activated.one_connection() {
            Some(connection) => vec![self.route_of(&connection)?],
            None => self.into_checked_routes()?,
        };
        routes.iter().try_for_each(|(name, _)| common.activated.check_one(name))?;
        let listeners = routes.iter().map(|(name, _)| common.activated.one(name)).collect::<Result<Vec<_>, _>>()?;
        listeners.iter().for_each(ActivatedListener::note_route);
        let routes = routes.into_iter().map(|(_, route)| route).zip(listeners).collect();
        Ok((common, routes))
    }

    fn common(&self) -> ServerContext {
        ServerContext {
            activated: self.activated.clone(),
            drain: self.drain.clone(),
            stats: self.stats.clone(),
            limits: self.limits.clone(),
        }
    }

    fn check_routes(&self) -> Result<(), Error> {
        if self.routes.is_empty() {
            return Err(Kind::NoRoute.into());
        }
        if self.limits.max_connections == Some(0) {
            return Err(Kind::NoConnections.into());
        }
        let names = self.route_names();
        match (1..names.len()).find(|i| names[..*i].contains(&names[*i])) {
            Some(i) => Err(Kind::TwoRoutes { name: names[i].clone() }.into()),
            None => Ok(()),
        }
    }

    /// The route that serves the connection of `Accept=yes`: that of its name, or the only one.
    fn route_of(mut self, connection: &ActivatedSocket) -> Result<(String, Route), Error> {
        let named = self.routes.iter().position(|(name, _)| name == connection.name());
        match named.or((self.routes.len() == 1).then_some(0)) {
            Some(i) => Ok(self.routes.swap_remove(i)),
            None => {
                let name = connection.name().to_owned();
                Err(Kind::AmbiguousConnection { name, routes: self.route_names() }.into())
            }
        }
    }

    fn into_checked_routes(self) -> Result<Vec<(String, Route)>, Error> {
        if !self.allow_unserved {
            self.check_unserved()?;
        }
        Ok(self.routes)
    }

    fn check_unserved(&self) -> Result<(), Error> {
        let served = |socket: &ActivatedSocket| self.routes.iter().any(|(name, _)| name == socket.name());
        let waits = |socket: &ActivatedSocket| socket.is_passed() && !socket.is_taken() && socket.is_listening();
        match self.activated.iter().find(|socket| waits(socket) && !served(socket)) {
            None => Ok(()),
            Some(socket) => Err(Kind::Unserved {
                name: socket.name().to_owned(),
                address: socket.place(),
                routes: self.route_names(),
            }
            .into()),
        }
    }

    fn route_names(&self) -> Vec<String> {
        self.routes.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// `server.await` is `server.run().await`.
impl IntoFuture for Server {
    type Output = Result<DrainReport, Error>;
    type IntoFuture = ServerFuture;

    fn into_future(self) -> ServerFuture {
        ServerFuture { run: Box::pin(self.run()) }
    }
}

/// The future of a [`Server`] that is awaited without [`run`](Server::run).
#[must_use = "futures do nothing unless they are polled"]
pub struct ServerFuture {
    run: Pin<Box<dyn Future<Output = Result<DrainReport, Error>> + Send>>,
}

impl Future for ServerFuture {
    type Output = Result<DrainReport, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.run.as_mut().poll(cx)
    }
}

impl fmt::Debug for ServerFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("activated", &self.activated)
            .field("routes", &self.route_names())
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}
