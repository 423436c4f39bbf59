//! What counts a connection as closed when its socket is, wherever the stream goes.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::state::State;
use crate::{idle_connection::Reservation, log};

/// The stream holds it wherever it goes: when the socket is closed, the connection is counted as closed for the reason that its state has.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    pub(super) state: Arc<State>,
    /// `None` when it has left with the connection.
    reservation: Option<Reservation>,
}

impl ConnectionGuard {
    /// Guards a connection whose reservation came back with it.
    pub(super) fn resume(state: Arc<State>, mut reservation: Reservation) -> Self {
        reservation.set_turn(None);
        reservation.unmoved().into_iter().for_each(|reason| state.note_unmoved(reason));
        Self { state, reservation: Some(reservation) }
    }

    /// Guards a connection that is new to this process.
    pub(super) fn new(state: Arc<State>, permit: Option<OwnedSemaphorePermit>) -> Self {
        let counters = Arc::clone(&state.route.counters);
        let reservation = Reservation::new(counters, state.route.drain.connections().token(), permit);
        Self::resume(state, reservation)
    }

    /// Its turn to leave, which ends when it has arrived, or is back.
    pub(super) fn set_turn(&mut self, turn: Option<OwnedSemaphorePermit>) {
        if let Some(reservation) = &mut self.reservation {
            reservation.set_turn(turn);
        }
    }

    /// Its place among the connections of the route, in place of the one that it had.
    #[cfg(feature = "tls")]
    pub(super) fn set_permit(&mut self, permit: Option<OwnedSemaphorePermit>) {
        if let Some(reservation) = &mut self.reservation {
            reservation.set_permit(permit);
        }
    }

    /// What is held for the connection while it is in transfer.
    pub(super) fn into_reservation(mut self) -> Option<Reservation> {
        self.set_reason();
        self.reservation.take()
    }

    fn set_reason(&mut self) {
        let Some(reservation) = &mut self.reservation else { return };
        let close_reason = self.state.close_reason();
        reservation.set_reason(close_reason);
        if let Some(reason) = self.state.unmoved(close_reason) {
            log::debug!(listener = &*self.state.route.counters.shared_name(), peer = %self.state.peer, %reason, "a connection did not move");
            reservation.set_unmoved(reason);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.set_reason();
    }
}
