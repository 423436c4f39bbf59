//! The server before it runs: the sockets, a service for each name, and every setting.
//!
//! The settings about systemd are set in `notify`, those about the handoff in `handoff`, and that about the fd store in `fd_store`.

use std::{fmt, future::Future, pin::Pin, sync::Mutex, time::Duration};

use super::{
    handoff::settings::Settings as HandoffSettings,
    limits::{Http2Options, Limits, MaxAge},
    notify::Settings as NotifySettings,
    options::{NamedRoute, ServeOptions},
    route::IntoRoute,
};
use crate::{
    activation::ActivatedListeners,
    drain::{Drain, Stats},
    handoff::Signals,
};

/// Serves a router per name, until a signal stops it.
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
/// that extracts them. The client is `ConnectInfo<`[`PeerAddr`](crate::PeerAddr)`>`.
///
/// Handlers and layers that are written for [`axum::serve`](fn@axum::serve) and want `ConnectInfo<SocketAddr>` get it as there. It is not
/// added to every request, as each addition costs each request an allocation:
///
/// ```
/// use std::net::SocketAddr;
/// use axum::{Router, extract::ConnectInfo, routing::get};
/// use axum_activation::{ActivatedListeners, Server};
///
/// async fn client(ConnectInfo(addr): ConnectInfo<SocketAddr>) -> String {
///     format!("you are {addr}")
/// }
/// # fn main() -> Result<(), axum_activation::Error> {
/// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
/// let app = Router::new().route("/", get(client)).into_make_service_with_connect_info::<SocketAddr>();
/// let server = Server::new(activated).serve("http", app);
/// # drop(server);
/// # Ok(())
/// # }
/// ```
///
/// The first bytes of a connection show whether it speaks HTTP/1.1 or HTTP/2 (with prior knowledge, RFC 9113, section
/// 3.3).
///
/// Defaults, each with its setter:
///
/// | | |
/// | --- | --- |
/// | [`drain_timeout`](Self::drain_timeout) | 30 s |
/// | [`keep_alive_grace`](Self::keep_alive_grace) | 1 s |
/// | [`lame_duck`](Self::lame_duck) | none |
/// | [`header_timeout`](Self::header_timeout) | 30 s |
/// | [`idle_timeout`](Self::idle_timeout) | 120 s |
/// | [`max_connections`](Self::max_connections) | no limit |
/// | [`handoff_timeout`](Self::handoff_timeout) | 30 s |
///
/// One server of a process hands over at SIGHUP and SIGUSR2, so a second one that runs at the same time fails, unless
/// [`without_handoff_signals`](Self::without_handoff_signals) is set. This holds for tests, too, that run several
/// servers in one process.
#[must_use = "a server does nothing until it is run"]
pub struct Server {
    pub(super) activated: ActivatedListeners,
    pub(super) routes: Vec<NamedRoute>,
    pub(super) drain: Drain,
    pub(super) stats: Stats,
    pub(super) limits: Limits,
    pub(super) drain_timeout: Duration,
    pub(super) notify: NotifySettings,
    pub(super) handoff: HandoffSettings,
    pub(super) fd_store: Option<usize>,
    pub(super) allow_unserved: bool,
    pub(super) signals: Signals,
    /// The future of [`with_graceful_shutdown`](Server::with_graceful_shutdown). Only the mutex makes it `Sync`; nothing locks it.
    pub(super) shutdown: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Server {
    /// A server for the sockets of `activated`, without a route yet.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// let server = Server::new(activated);
    /// let error = server.run().await.unwrap_err();
    /// assert!(error.to_string().starts_with("the server has no route"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(activated: ActivatedListeners) -> Self {
        Self {
            activated,
            routes: Vec::new(),
            drain: Drain::new(),
            stats: Stats::default(),
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(30),
            notify: NotifySettings::default(),
            handoff: HandoffSettings::default(),
            fd_store: None,
            allow_unserved: false,
            signals: Signals::wanted(),
            shutdown: Mutex::default(),
        }
    }

    /// Serves `service` on every socket of that name.
    ///
    /// `service` is a [`Router`](axum::Router), a `MethodRouter`, a handler's `into_service()`, any tower service from
    /// requests to responses, or a make-service from [`IncomingConnection`](crate::server::IncomingConnection) to one,
    /// such as `into_make_service_with_connect_info::<PeerAddr>()`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum::handler::HandlerWithoutStateExt;
    /// use axum_activation::Server;
    ///
    /// let handler = (|| async { "hello" }).into_service();
    /// Server::new(activated).serve("http", handler).with_graceful_shutdown(stop).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn serve<M>(self, name: impl Into<String>, service: impl IntoRoute<M>) -> Self {
        self.serve_with(name, service, ServeOptions::new())
    }

    /// As [`serve`](Self::serve), with settings of this name: limits, and whether it goes on while the others drain.
    ///
    /// ```
    /// use axum::Router;
    /// use axum_activation::{ActivatedListeners, Server, server::ServeOptions};
    ///
    /// # fn main() -> Result<(), axum_activation::Error> {
    /// let activated = ActivatedListeners::builder().fallback("metrics", "127.0.0.1:0").build()?;
    /// let server = Server::new(activated).serve_with("metrics", Router::new(), ServeOptions::new().until_done());
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    pub fn serve_with<M>(mut self, name: impl Into<String>, service: impl IntoRoute<M>, options: ServeOptions) -> Self {
        self.routes.push(NamedRoute { name: name.into(), route: service.into_route(), options });
        self
    }

    /// How long requests in flight may take to finish once the drain has started; what is left then is aborted. 30 s by
    /// default.
    ///
    /// Keep `TimeoutStopSec=` of the unit above it, or systemd sends SIGKILL first. [`unit_check`](crate::unit_check)
    /// finds that.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::time::Duration;
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .drain_timeout(Duration::from_secs(60)) // TimeoutStopSec=65
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        (self.drain_timeout, self.limits.drain) = (limit, limit);
        self
    }

    /// How long an idle HTTP/1 connection may send one more request once the drain has started and the
    /// [`lame_duck`](Self::lame_duck) is over, before it is closed; 1 s by default.
    ///
    /// The answer to that request says `Connection: close`. A client that is about to send when the service stops loses
    /// nothing, unless it thinks for longer than that. So keep it above the time for which a proxy in front keeps idle
    /// connections, where that does not ask readiness.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::time::Duration;
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .keep_alive_grace(Duration::from_millis(200))
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_alive_grace(mut self, time: Duration) -> Self {
        self.limits.keep_alive_grace = time;
        self
    }

    /// How long to go on accepting once the drain has started; 0 by default.
    ///
    /// Readiness turns at once, so a load balancer that polls it has this long to notice before connects are refused.
    /// Every response carries `Connection: close` meanwhile, and no idle connection is closed: its client may be about
    /// to send. It is part of [`drain_timeout`](Self::drain_timeout).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::time::Duration;
    /// use axum_activation::{Server, readiness::readiness};
    ///
    /// // A load balancer polls every 5 s, and takes an instance out after two failures.
    /// let server = Server::new(activated)
    ///     .serve("http", app.route("/ready", readiness()))
    ///     .lame_duck(Duration::from_secs(11))
    ///     .drain_timeout(Duration::from_secs(45));
    /// # drop((server, stop));
    /// # Ok(())
    /// # }
    /// ```
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.limits.lame_duck = time;
        self
    }

    /// How long the headers of a request may take, from their first byte; 30 s by default, `None` for ever. Then it is
    /// answered with 408.
    ///
    /// It bounds what a client that sends one byte at a time can hold.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::time::Duration;
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .header_timeout(Duration::from_secs(10))
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn header_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.header_timeout = limit.into();
        self
    }

    /// How long a connection may be without a request, and at most an eighth longer; 120 s by default, `None` for ever.
    ///
    /// Keep it above that of a load balancer in front, or that one sends requests into connections that end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::time::Duration;
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .idle_timeout(Duration::from_secs(600)) // the load balancer closes after 350 s
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limits.idle_timeout = limit.into();
        self
    }

    /// How many connections each route may have open, 1 at least; the rest wait in the kernel's queue. No limit by
    /// default.
    ///
    /// A connection that moves in from the old process counts too, and is served beyond the limit: it is open already.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .max_connections(10_000)
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.max_connections = Some(connections);
        self
    }

    /// Ends each connection when it is `age` old and up to `jitter` more, between two requests; never by default.
    ///
    /// It spreads clients over instances that came later. A connection that moves to the next process keeps its age.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::time::Duration;
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .max_connection_age(Duration::from_secs(3600), Duration::from_secs(600))
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_connection_age(mut self, age: Duration, jitter: Duration) -> Self {
        self.limits.max_age = Some(MaxAge { age, jitter });
        self
    }

    /// Settings of HTTP/2 connections.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::{Server, server::Http2Options};
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .http2(Http2Options::new().max_concurrent_streams(100))
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn http2(mut self, options: Http2Options) -> Self {
        self.limits.http2 = options;
        self
    }

    /// The drain of this server, to start it from code, to watch its phase, or to spawn tasks that it waits for.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// let server = Server::new(activated).serve("http", app);
    /// let drain = server.drain();
    /// let running = tokio::spawn(server.run());
    /// drain.start();
    /// assert!(running.await.unwrap()?.is_clean());
    /// # drop(stop);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Drains together with others: `drain` is used in place of the server's own.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::{Drain, Server};
    ///
    /// let drain = Drain::new();
    /// let server = Server::new(activated).serve("http", app).with_drain(drain.clone());
    /// drain.start();
    /// server.run().await?;
    /// # drop(stop);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Live statistics, while the server runs and after.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// let server = Server::new(activated).serve("http", app);
    /// let stats = server.stats();
    /// server.with_graceful_shutdown(stop).await?;
    /// assert_eq!(stats.read()[0].requests, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Allows listening sockets that were passed and that no route serves.
    ///
    /// Without it [`run`](Self::run) fails, as their clients would connect and hang. With it they do, unless another
    /// server of this process serves them. Those that the predecessor had bound stay open.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use std::net::TcpListener;
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// let activated = ActivatedListeners::builder()
    ///     .socket("http", TcpListener::bind("127.0.0.1:0").unwrap())
    ///     .socket("grpc", TcpListener::bind("127.0.0.1:0").unwrap()) // tonic serves it
    ///     .build()?;
    /// let grpc = activated.one("grpc")?;
    /// Server::new(activated).serve("http", app).allow_unserved().with_graceful_shutdown(stop).await?;
    /// # drop(grpc);
    /// # Ok(())
    /// # }
    /// ```
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

    /// Leaves SIGTERM and SIGINT to the program, which ends the server with
    /// [`with_graceful_shutdown`](Self::with_graceful_shutdown) or its [`drain`](Self::drain).
    ///
    /// SIGHUP and SIGUSR2 still hand over; [`without_handoff_signals`](Self::without_handoff_signals) leaves those two
    /// to the program.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// # let (app, stop) = (axum::Router::<()>::new(), async {});
    /// use axum_activation::Server;
    ///
    /// Server::new(activated)
    ///     .serve("http", app)
    ///     .without_signals()
    ///     .with_graceful_shutdown(stop)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_signals(mut self) -> Self {
        self.signals = Signals::none();
        self
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
