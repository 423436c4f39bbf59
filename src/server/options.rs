//! Settings of one route, in place of those of the server.

use std::time::Duration;

use super::{
    limits::{Http2Options, Limits, MaxAge},
    route::Route,
};
use crate::listener::ActivatedListener;
#[cfg(feature = "tls")]
use crate::{server::connection::context::Encryption, tls::Tls};

/// Settings of one name, for [`Server::serve_with`](super::Server::serve_with). What is not set here is that of the server.
///
/// Public clients and an admin port behind a firewall need other limits:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use std::time::Duration;
///
/// use axum::{Router, routing::get};
/// use axum_activation::{ActivatedListeners, Server, readiness::readiness, server::ServeOptions};
///
/// let activated = ActivatedListeners::builder()
///     .fallback("http", "127.0.0.1:0")
///     .fallback("admin", "127.0.0.1:0")
///     .from_env()?;
/// let admin = Router::new().route("/ready", readiness());
/// let server = Server::new(activated)
///     .idle_timeout(Duration::from_secs(60)) // of both
///     .serve("http", Router::new().route("/", get(|| async { "hello" })))
///     .serve_with("admin", admin, ServeOptions::new().max_connections(10).until_done());
/// # server.drain().start();
/// # server.run().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ServeOptions {
    header_timeout: Option<Option<Duration>>,
    idle_timeout: Option<Option<Duration>>,
    max_connections: Option<Option<usize>>,
    max_age: Option<MaxAge>,
    lame_duck: Option<Duration>,
    keep_alive_grace: Option<Duration>,
    http2: Option<Http2Options>,
    until_done: bool,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

/// A service, the name that it is served under, and its settings.
pub(super) struct NamedRoute {
    pub(super) name: String,
    pub(super) route: Route,
    pub(super) options: ServeOptions,
}

/// A service that has its settings and its sockets.
pub(super) type ReadyRoute = (Route, RouteSettings, ActivatedListener);

/// The settings of one route, complete.
#[derive(Clone, Debug)]
pub(super) struct RouteSettings {
    pub(super) limits: Limits,
    pub(super) until_done: bool,
    #[cfg(feature = "tls")]
    pub(super) encryption: Option<Encryption>,
}

impl ServeOptions {
    /// The settings of the server.
    ///
    /// ```
    /// use axum_activation::server::ServeOptions;
    ///
    /// let options = ServeOptions::new();
    /// # drop(options);
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on accepting and serving under this name while everything else drains: for metrics, and for readiness on an admin port.
    ///
    /// Its drain starts when the requests, connections and [tasks](crate::Drain::tasks) of all other names are done. Idle connections are closed
    /// at once then, unless [`keep_alive_grace`](Self::keep_alive_grace) gives them time. All of it is part of
    /// [`drain_timeout`](super::Server::drain_timeout), at which its connections are aborted as all others are. Its handlers see the
    /// [`Drain`](crate::Drain) of the server, so [`readiness`](crate::readiness::readiness) says 503 from the start of the drain.
    ///
    /// In a handoff this name moves as all others do: the new process serves it from the commit on.
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
    pub fn until_done(mut self) -> Self {
        self.until_done = true;
        self
    }

    /// See [`Server::header_timeout`](super::Server::header_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::server::ServeOptions;
    ///
    /// let slow_clients = ServeOptions::new().header_timeout(Duration::from_secs(120));
    /// # drop(slow_clients);
    /// ```
    pub fn header_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.header_timeout = Some(limit.into());
        self
    }

    /// See [`Server::idle_timeout`](super::Server::idle_timeout).
    ///
    /// ```
    /// use axum_activation::server::ServeOptions;
    ///
    /// let trusted_proxy = ServeOptions::new().idle_timeout(None);
    /// # drop(trusted_proxy);
    /// ```
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = Some(limit.into());
        self
    }

    /// See [`Server::max_connections`](super::Server::max_connections); `None` for no limit.
    ///
    /// ```
    /// use axum_activation::server::ServeOptions;
    ///
    /// let admin = ServeOptions::new().max_connections(10);
    /// # drop(admin);
    /// ```
    pub fn max_connections(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections = Some(connections.into());
        self
    }

    /// See [`Server::max_connection_age`](super::Server::max_connection_age).
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::server::ServeOptions;
    ///
    /// let public = ServeOptions::new().max_connection_age(Duration::from_secs(600), Duration::from_secs(60));
    /// # drop(public);
    /// ```
    pub fn max_connection_age(mut self, age: Duration, jitter: Duration) -> Self {
        self.max_age = Some(MaxAge { age, jitter });
        self
    }

    /// See [`Server::lame_duck`](super::Server::lame_duck). With [`until_done`](Self::until_done) it counts from the end of all others, and
    /// is 0 unless it is set here.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::server::ServeOptions;
    ///
    /// let behind_a_load_balancer = ServeOptions::new().lame_duck(Duration::from_secs(5));
    /// # drop(behind_a_load_balancer);
    /// ```
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.lame_duck = Some(time);
        self
    }

    /// See [`Server::keep_alive_grace`](super::Server::keep_alive_grace). With [`until_done`](Self::until_done) it counts from the end of all
    /// others, and is 0 unless it is set here.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::server::ServeOptions;
    ///
    /// let behind_a_proxy = ServeOptions::new().keep_alive_grace(Duration::from_secs(3));
    /// # drop(behind_a_proxy);
    /// ```
    pub fn keep_alive_grace(mut self, time: Duration) -> Self {
        self.keep_alive_grace = Some(time);
        self
    }

    /// See [`Server::http2`](super::Server::http2).
    ///
    /// ```
    /// use axum_activation::server::{Http2Options, ServeOptions};
    ///
    /// let grpc = ServeOptions::new().http2(Http2Options::new().max_concurrent_streams(1000));
    /// # drop(grpc);
    /// ```
    pub fn http2(mut self, options: Http2Options) -> Self {
        self.http2 = Some(options);
        self
    }

    /// Speaks TLS under this name. It needs the feature `tls`.
    ///
    /// A connection has `tls` from its first byte to its last, with HTTP/2 or HTTP/1.1 over it. Handshakes are done beside each other, and
    /// no slow client delays another one: as many as `max_connections` may be in their handshakes, beside as many that have done it.
    /// A request in clear is answered with 400. Handlers ask for [`TlsInfo`](crate::tls::TlsInfo).
    ///
    /// A connection over TLS does not move in a handoff. It ends as in a drain, and its client connects to the next process.
    ///
    /// ```
    /// use axum_activation::{server::ServeOptions, tls::Tls};
    ///
    /// # fn main() -> Result<(), axum_activation::Error> {
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// let https = ServeOptions::new().tls(Tls::pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")?);
    /// # drop(https);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Whether no connection may come, so that every client would hang.
    pub(super) fn lets_none_in(&self) -> bool {
        self.max_connections == Some(Some(0))
    }

    /// These settings over those of the server.
    pub(super) fn over(self, server: &Limits) -> RouteSettings {
        let of_server = |time: Duration| if self.until_done { Duration::ZERO } else { time };
        let limits = Limits {
            header_timeout: self.header_timeout.unwrap_or(server.header_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(server.idle_timeout),
            max_connections: self.max_connections.unwrap_or(server.max_connections),
            max_age: self.max_age.or(server.max_age),
            lame_duck: self.lame_duck.unwrap_or_else(|| of_server(server.lame_duck)),
            keep_alive_grace: self.keep_alive_grace.unwrap_or_else(|| of_server(server.keep_alive_grace)),
            drain: server.drain,
            http2: self.http2.unwrap_or_else(|| server.http2.clone()),
        };
        RouteSettings {
            until_done: self.until_done,
            #[cfg(feature = "tls")]
            encryption: self.tls.map(|tls| Encryption { tls, open: limits.places() }),
            limits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_that_of_the_server() {
        let seconds = Duration::from_secs;
        let server = Limits { lame_duck: seconds(5), max_connections: Some(7), ..Limits::default() };
        let RouteSettings { limits, until_done, .. } = ServeOptions::new().idle_timeout(None).over(&server);
        assert_eq!((limits.idle_timeout, limits.lame_duck, limits.max_connections), (None, seconds(5), Some(7)));
        assert!(!until_done);
        let options = ServeOptions::new().max_connections(None).lame_duck(seconds(1)).until_done();
        let RouteSettings { limits, until_done, .. } = options.over(&server);
        assert_eq!((limits.max_connections, limits.lame_duck), (None, seconds(1)));
        assert!(until_done && limits.keep_alive_grace.is_zero());
    }
}
