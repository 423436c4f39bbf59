//! Where the movable connections of a route go now: to the successor, to the fd store, or back to the route.
//!
//! Connections know one sink all their life, and it is redirected under them. A connection that finds no destination
//! goes back to its route and is served on, so that a handoff that fails at any moment loses none.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use super::{accept::AcceptCommand, connection::context::MoveSink};
use crate::{
    idle_connection::{Accepts, IdleConnection},
    log,
};

/// A destination that a route can be given while it runs.
pub(super) type BoxSink = Box<dyn MoveSink>;

/// Which connections the routes of this build take, beside those of HTTP/1 that are idle.
pub(super) const TAKEN: Accepts = Accepts { http2: true, resumable: true };

/// A destination that takes more than idle connections of HTTP/1.
pub(super) struct AcceptingSink<F> {
    pub(super) accepts: Accepts,
    pub(super) send: F,
}

impl<F: Fn(IdleConnection) -> Result<(), IdleConnection> + Send + Sync> MoveSink for AcceptingSink<F> {
    fn send(&self, connection: IdleConnection) -> Result<(), IdleConnection> {
        (self.send)(connection)
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }
}

/// The sink that the connections of a route know. It passes them to the sink of the moment, and back to the route where that takes no
/// more.
#[derive(Debug)]
pub(super) struct RouteSink {
    redirected: Mutex<Option<BoxSink>>,
    route: UnboundedSender<AcceptCommand>,
}

impl RouteSink {
    /// Sends connections back to the route that has these commands.
    pub(super) fn new(route: UnboundedSender<AcceptCommand>) -> Self {
        Self { redirected: Mutex::new(None), route }
    }

    /// From now on connections go to `sink`, or back to the route with `None`.
    pub(super) fn redirect_to(&self, sink: Option<BoxSink>) {
        *self.redirected.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    /// Lets the route serve it again. A route that has ended closes it.
    fn return_to_route(&self, connection: IdleConnection) {
        log::debug!(listener = &*connection.listener, "a connection that was to leave is served on");
        if self.route.send(AcceptCommand::adopt(connection)).is_err() {
            log::debug!("a connection came back to a route that has ended");
        }
    }
}

impl MoveSink for RouteSink {
    fn send(&self, connection: IdleConnection) -> Result<(), IdleConnection> {
        let sent = match &*self.redirected.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(sink) => sink.send(connection),
            None => Err(connection),
        };
        if let Err(connection) = sent {
            self.return_to_route(connection);
        }
        Ok(())
    }

    fn accepts(&self) -> Accepts {
        let redirected = self.redirected.lock().unwrap_or_else(PoisonError::into_inner);
        redirected.as_ref().map_or(TAKEN, |sink| sink.accepts())
    }
}
