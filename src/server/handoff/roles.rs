//! What a server is to the process before it, and to the one after it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    drain::{Drain, UnmovedReason},
    handoff::StateParts,
    idle_connection::IdleConnection,
    log,
    server::routes::{RouteHandle, Routes, adopt, finish},
    wire::{reason::ReturnReason, receive::NewProcess, section::Section, send::OldProcess},
};

/// This process, as the one that connections are moved away from.
pub(in crate::server) struct OldServer {
    routes: Vec<RouteHandle>,
    drain: Drain,
    /// What came back as the successor died.
    returned: Arc<Mutex<Vec<IdleConnection>>>,
}

impl OldServer {
    pub(super) fn new(serving: &Routes, returned: &Arc<Mutex<Vec<IdleConnection>>>) -> Self {
        let drain = serving.current_drain().clone();
        Self { routes: serving.handles().to_vec(), drain, returned: Arc::clone(returned) }
    }
}

impl OldProcess for OldServer {
    fn resume(&mut self, connection: IdleConnection, why: &ReturnReason) {
        if *why == ReturnReason::Died {
            self.returned.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            return;
        }
        log::debug!(?why, listener = &*connection.listener, peer = %connection.peer, "a connection does not move, it ends here");
        finish(&self.routes, connection, unmoved(why));
    }

    /// What comes back ends here, unless the successor has died: then it waits for what becomes of the service.
    fn stop_moving(&mut self, why: &ReturnReason) {
        if *why == ReturnReason::Died {
            self.routes.iter().for_each(|route| route.buffer_into(&self.returned));
        } else {
            // First the drain, so that a connection that comes back finds that it stays.
            self.drain.stop_moving();
            self.routes.iter().for_each(RouteHandle::stop_redirecting);
        }
    }
}

/// What a connection is counted as that comes back.
fn unmoved(why: &ReturnReason) -> UnmovedReason {
    match why {
        ReturnReason::NoRoom => UnmovedReason::NoRoom,
        ReturnReason::NotTaken(_) => UnmovedReason::NotTaken,
        ReturnReason::Unsendable(_) => UnmovedReason::Unsendable,
        ReturnReason::Refused(_) | ReturnReason::Leaving | ReturnReason::Died => UnmovedReason::Refused,
    }
}

/// This process, as the one that connections move to.
pub(in crate::server) struct NewServer {
    routes: Vec<RouteHandle>,
    final_states: StateParts,
}

impl NewServer {
    pub(super) fn new(serving: &Routes, final_states: &StateParts) -> Self {
        Self { routes: serving.handles().to_vec(), final_states: final_states.clone() }
    }
}

impl NewProcess for NewServer {
    fn admit(&mut self, connections: &[IdleConnection]) -> Result<(), String> {
        let is_open = |name: &str| self.routes.iter().any(|route| &*route.name == name && route.is_open());
        match connections.iter().find(|connection| !is_open(&connection.listener)) {
            None => Ok(()),
            Some(connection) => Err(format!("nothing serves {:?} here", connection.listener)),
        }
    }

    fn serve(&mut self, connections: Vec<IdleConnection>) {
        connections.into_iter().for_each(|connection| adopt(&self.routes, connection));
    }

    async fn take_final(&mut self, section: Section) -> Result<(), String> {
        self.final_states.import_final(section).await
    }
}

/// What came back, once.
pub(super) fn take(returned: &Mutex<Vec<IdleConnection>>) -> Vec<IdleConnection> {
    std::mem::take(&mut *returned.lock().unwrap_or_else(PoisonError::into_inner))
}
