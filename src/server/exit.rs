//! Where connections go that leave a route alive: to a successor, to the fd store, or back to it where neither takes any more.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use tokio::sync::mpsc::UnboundedSender;

use super::accept::{Arrived, Order};
use crate::{log, transit::IdleConnection};

/// Takes a connection on; an error gives it back.
pub(super) type Taker = Box<dyn Fn(IdleConnection) -> Result<(), IdleConnection> + Send>;

/// The way out of one route.
pub(super) struct Exit {
    taker: Mutex<Option<Taker>>,
    back: UnboundedSender<Order>,
}

impl Exit {
    pub(super) fn new(back: UnboundedSender<Order>) -> Self {
        Self { taker: Mutex::new(None), back }
    }

    /// From now on connections go to `taker`, or back to their route where there is none.
    pub(super) fn lead_to(&self, taker: Option<Taker>) {
        *self.taker.lock().unwrap_or_else(PoisonError::into_inner) = taker;
    }

    /// Sends a connection on its way.
    pub(super) fn leave(&self, connection: IdleConnection) {
        let taken = match &*self.taker.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(taker) => taker(connection),
            None => Err(connection),
        };
        if let Err(connection) = taken {
            self.give_back(connection);
        }
    }

    /// Lets the route serve it again.
    fn give_back(&self, connection: IdleConnection) {
        log::debug!(listener = &*connection.listener, "a connection that was to leave is served on");
        if self.back.send(Order::Adopt(Arrived::again(connection))).is_err() {
            log::debug!("a connection came back to a route that has ended");
        }
    }
}

impl fmt::Debug for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exit").finish_non_exhaustive()
    }
}
