//! The exchange of a connection that a handler may leave, while there is one.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::resume::Exchange;

/// Holds at most one exchange: HTTP/1 answers one request at a time.
#[derive(Debug, Default)]
pub(super) struct ExchangeSlot {
    /// As most connections never have one, this is asked first. The connection's task writes it, or a handler that the task waits for.
    is_full: AtomicBool,
    exchange: Mutex<Option<Arc<Exchange>>>,
}

impl ExchangeSlot {
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// The exchange of the request of that number.
    pub(super) fn of(&self, call: u32) -> Option<Arc<Exchange>> {
        let exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        exchange.as_ref().filter(|exchange| exchange.call() == call).cloned()
    }

    pub(super) fn set(&self, exchange: Option<Arc<Exchange>>) {
        self.is_full.store(exchange.is_some(), Ordering::Relaxed);
        *self.exchange.lock().unwrap_or_else(PoisonError::into_inner) = exchange;
    }
}
