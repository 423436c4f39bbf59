//! A router per name: accept, serve, and end in order.

use std::{fmt, future::Future, time::Duration};

mod accept;
mod connection;
mod route;
mod serving;
mod signals;

pub use self::route::{AsMakeService, AsService, Incoming, IntoRoute, Route};
use self::{serving::Serving, signals::Signals};
use crate::{
    activation::{ActivatedListeners, ActivatedSocket},
    drain::DrainReport,
    error::{Error, Kind},
    sys::socket::SocketKind,
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
///     .route("http", Router::new().route("/", get(|| async { "hello" })))
///     .route("admin", Router::new().route("/status", get(|| async { "fine" })))
///     .run()
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
///
/// Every request carries its [`ListenerName`](crate::ListenerName), the [`ActivatedListeners`] to be shown, and
/// `ConnectInfo<`[`PeerAddr`](crate::PeerAddr)`>`, for whoever extracts them. HTTP/1.1 and HTTP/2 (with prior knowledge) are told
/// apart by the first bytes.
#[must_use = "a server does nothing until it is run"]
pub struct Server {
    activated: ActivatedListeners,
    routes: Vec<(String, Route)>,
    drain_timeout: Duration,
    allow_unused: bool,
    signals: bool,
}

impl Server {
    /// A server for the sockets of `activated`, without a route yet.
    pub fn new(activated: ActivatedListeners) -> Self {
        Self {
            activated,
            routes: Vec::new(),
            drain_timeout: Duration::from_secs(30),
            allow_unused: false,
            signals: true,
        }
    }

    /// Serves `service` on every socket of that name.
    ///
    /// `service` is a [`Router`](axum::Router), a `MethodRouter`, a handler's `into_service()`, any tower service from requests
    /// to responses, or a make-service from [`Incoming`] to one, such as `into_make_service_with_connect_info::<PeerAddr>()`.
    pub fn route<M>(mut self, name: impl Into<String>, service: impl IntoRoute<M>) -> Self {
        self.routes.push((name.into(), service.into_route()));
        self
    }

    /// How long requests in flight may take to finish once the drain has begun; what is left then is cut. 30 s by default.
    ///
    /// Keep `TimeoutStopSec=` of the unit above it, or the service manager kills first.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// Lets listening sockets be that no route serves; their clients connect and hang.
    pub fn allow_unused(mut self) -> Self {
        self.allow_unused = true;
        self
    }

    /// Leaves SIGTERM and SIGINT to the program.
    pub fn without_signals(mut self) -> Self {
        self.signals = false;
        self
    }

    /// Serves until SIGTERM or SIGINT, then drains: stops accepting, finishes what is in flight, cuts what is left after
    /// [`drain_timeout`](Self::drain_timeout). A second signal cuts at once; one within a second of the first is a repeat of it.
    ///
    /// With the one connection of `Accept=yes` it returns when that is served.
    ///
    /// # Errors
    ///
    /// Before anything is served: no route, two of one name, a route whose name nobody passed or bound or whose socket is no
    /// stream socket or taken, or a listening socket that was passed and that no route serves, unless
    /// [`allow_unused`](Self::allow_unused).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops accepting and cuts every connection.
    pub async fn run(self) -> Result<DrainReport, Error> {
        self.run_until(std::future::pending()).await
    }

    /// As [`run`](Self::run), and drains when `stop` resolves, too.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<DrainReport, Error> {
        let mut signals = if self.signals { Signals::install()? } else { Signals::none() };
        let drain_timeout = self.drain_timeout;
        let serving = self.start()?;
        tokio::select! {
            () = serving.exhausted() => {}
            () = stop => tracing::info!("asked to stop, draining"),
            signal = signals.first() => tracing::info!(signal, "draining"),
        }
        Ok(serving.drain(drain_timeout, signals.second()).await)
    }

    /// Takes every socket and checks all there is to check before the first connection is accepted.
    fn start(self) -> Result<Serving, Error> {
        self.check_routes()?;
        let activated = self.activated.clone();
        let routes = match activated.one_connection() {
            Some(connection) => vec![self.route_of(&connection)?],
            None => self.into_checked_routes()?,
        };
        let listeners = routes.iter().map(|(name, _)| activated.one(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Serving::start(&activated, routes.into_iter().map(|(_, route)| route).zip(listeners)))
    }

    fn check_routes(&self) -> Result<(), Error> {
        if self.routes.is_empty() {
            return Err(Kind::NoRoute.into());
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
        if !self.allow_unused {
            self.check_unserved()?;
        }
        Ok(self.routes)
    }

    fn check_unserved(&self) -> Result<(), Error> {
        let served = |socket: &ActivatedSocket| self.routes.iter().any(|(name, _)| name == socket.name());
        let waits = |socket: &ActivatedSocket| {
            socket.is_passed() && !socket.is_taken() && matches!(socket.kind(), SocketKind::Listener(_))
        };
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

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("activated", &self.activated)
            .field("routes", &self.route_names())
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}
