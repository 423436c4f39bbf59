//! What all connections of one route share. It is below everything of a connection, and knows nothing of the accept loop.

use std::{fmt, sync::Arc};

#[cfg(feature = "tls")]
use tokio::sync::Semaphore;

#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::{
    drain::{Counters, Drain},
    extract::Served,
    idle_connection::{Accepts, IdleConnection},
    resume::Destination,
    server::{limits::Limits, reaper::Reaper},
};

/// What the connections of one route share, from the accept to the close.
///
/// A route gets another context when the drain is called off, as the successor has died: connections that come later have the new one.
#[derive(Debug)]
pub(in crate::server) struct RouteContext {
    /// What every request can extract.
    pub(in crate::server) served: Served,
    pub(in crate::server) drain: Drain,
    pub(in crate::server) counters: Arc<Counters>,
    pub(in crate::server) limits: Limits,
    pub(in crate::server) reaper: Arc<Reaper>,
    pub(in crate::server) sink: Arc<dyn MoveSink>,
    #[cfg(feature = "tls")]
    pub(in crate::server) encryption: Option<Encryption>,
}

/// TLS on a route.
#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
pub(in crate::server) struct Encryption {
    pub(in crate::server) tls: Tls,
    /// As many as `max_connections`, for those whose handshake is done: as many again may be in their handshakes, so that clients which
    /// connect and do nothing keep no place that another one needs.
    pub(in crate::server) open: Option<Arc<Semaphore>>,
}

impl RouteContext {
    /// Whether connections speak TLS.
    #[inline]
    pub(in crate::server) fn is_encrypted(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.encryption.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }
}

impl Destination for RouteContext {
    fn drain(&self) -> &Drain {
        &self.drain
    }

    fn takes_resumable(&self) -> bool {
        self.sink.accepts().resumable
    }
}

/// Destination of movable connections: the successor, the fd store, or back to the route.
pub(in crate::server) trait MoveSink: Send + Sync {
    /// Takes the connection.
    ///
    /// # Errors
    ///
    /// The connection, if the sink takes no more.
    fn send(&self, connection: IdleConnection) -> Result<(), IdleConnection>;

    /// Which connections the destination of the moment takes, beside those of HTTP/1 that are idle.
    fn accepts(&self) -> Accepts {
        Accepts::default()
    }
}

impl<F: Fn(IdleConnection) -> Result<(), IdleConnection> + Send + Sync> MoveSink for F {
    fn send(&self, connection: IdleConnection) -> Result<(), IdleConnection> {
        self(connection)
    }
}

impl fmt::Debug for dyn MoveSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MoveSink")
    }
}
