//! A connection that has no service yet, and what makes one for it.

use std::{future::Future, net::SocketAddr};

use axum::extract::connect_info::Connected;

use super::connection::service::HttpService;
use crate::{addr::PeerAddr, listener::ActivatedStream};

/// A connection that a make-service is to make a service for, as axum's own `IncomingStream` (which cannot be built outside
/// axum).
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

    /// The stream.
    #[must_use]
    pub fn io(&self) -> &'a ActivatedStream {
        self.stream
    }

    /// Who is at the other end.
    #[must_use]
    pub fn remote_addr(&self) -> &'a PeerAddr {
        self.peer
    }

    /// The name of the socket that it came through.
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
