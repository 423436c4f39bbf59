//! A connection that has no service yet, and what makes one for it.

use std::{future::Future, net::SocketAddr};

use axum::extract::connect_info::Connected;

use super::connection::service::HttpService;
use crate::{addr::PeerAddr, listener::ActivatedStream};

/// A connection that a make-service is to make a service for, as axum's own `IncomingStream` (which cannot be built
/// outside axum).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), axum_activation::Error> {
/// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
/// # let (app, stop) = (axum::Router::<()>::new(), async {});
/// use axum::Router;
/// use axum_activation::{Server, server::IncomingConnection};
/// use tower::service_fn;
///
/// let make = service_fn(|incoming: IncomingConnection<'_>| {
///     println!("{} connects through {}", incoming.remote_addr(), incoming.listener_name());
///     std::future::ready(Ok::<_, std::convert::Infallible>(Router::new()))
/// });
/// Server::new(activated).serve("http", make).with_graceful_shutdown(stop).await?;
/// # drop(app);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct IncomingConnection<'a> {
    stream: &'a ActivatedStream,
    peer: &'a PeerAddr,
    listener_name: &'a str,
}

impl<'a> IncomingConnection<'a> {
    pub(super) fn new(stream: &'a ActivatedStream, peer: &'a PeerAddr, listener_name: &'a str) -> Self {
        Self { stream, peer, listener_name }
    }

    /// The stream, to ask its socket something before the first request.
    ///
    /// ```
    /// use axum_activation::server::IncomingConnection;
    ///
    /// fn set_nodelay(incoming: &IncomingConnection<'_>) -> std::io::Result<()> {
    ///     incoming.io().as_tcp().map_or(Ok(()), |tcp| tcp.set_nodelay(true))
    /// }
    /// # let _ = set_nodelay;
    /// ```
    #[must_use]
    pub fn io(&self) -> &'a ActivatedStream {
        self.stream
    }

    /// Who is at the other end. A make-service can refuse a client by it.
    ///
    /// ```
    /// use axum_activation::server::IncomingConnection;
    ///
    /// fn is_local(incoming: &IncomingConnection<'_>) -> bool {
    ///     incoming.remote_addr().ip().is_some_and(|ip| ip.is_loopback())
    /// }
    /// # let _ = is_local;
    /// ```
    #[must_use]
    pub fn remote_addr(&self) -> &'a PeerAddr {
        self.peer
    }

    /// The name of the socket that it came through.
    ///
    /// ```
    /// use axum_activation::server::IncomingConnection;
    ///
    /// fn is_admin(incoming: &IncomingConnection<'_>) -> bool {
    ///     incoming.listener_name() == "admin"
    /// }
    /// # let _ = is_admin;
    /// ```
    #[must_use]
    pub fn listener_name(&self) -> &'a str {
        self.listener_name
    }
}

/// `into_make_service_with_connect_info::<PeerAddr>()` under [`Server`](super::Server).
impl Connected<IncomingConnection<'_>> for PeerAddr {
    fn connect_info(incoming: IncomingConnection<'_>) -> Self {
        incoming.peer.clone()
    }
}

/// `into_make_service_with_connect_info::<SocketAddr>()`, as programs have it that were served by [`axum::serve`](fn@axum::serve).
///
/// A client through a Unix socket or vsock has no such address: it is `0.0.0.0:0` then. [`PeerAddr`] says who such a client is.
impl Connected<IncomingConnection<'_>> for SocketAddr {
    fn connect_info(incoming: IncomingConnection<'_>) -> Self {
        incoming.peer.socket_addr().unwrap_or_else(|| Self::from(([0, 0, 0, 0], 0)))
    }
}

/// Makes the service of each connection.
pub(super) trait MakeConnectionService: Send + 'static {
    type Service: HttpService;

    fn make(&mut self, incoming: IncomingConnection<'_>) -> impl Future<Output = Self::Service> + Send;
}
