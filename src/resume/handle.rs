//! How an extractor finds the exchange of its request: a part of a request extension that every request has.

use std::{fmt, sync::Arc};

use axum::http::{Uri, request::Parts};

use super::exchange::Exchange;

/// The exchanges of one connection.
pub(crate) trait Exchanges: Send + Sync + fmt::Debug {
    /// How many requests there were.
    fn calls(&self) -> u32;

    /// The exchange of the request of that number; `None` if that is answered already, or cannot be resumed.
    fn exchange(&self, call: u32, parts: &Parts, target: &Uri) -> Option<Arc<Exchange>>;
}

/// A connection, and which of its requests this is.
///
/// The connection has one of no request. Each request gets a clone of that, which is of the request that is being called.
#[derive(Debug)]
pub(crate) struct ConnectionHandle {
    connection: Arc<dyn Exchanges>,
    call: Option<u32>,
}

impl ConnectionHandle {
    /// Of no request yet.
    pub(crate) fn new(connection: Arc<dyn Exchanges>) -> Self {
        Self { connection, call: None }
    }

    /// The exchange of the request.
    pub(crate) fn exchange(&self, parts: &Parts, target: &Uri) -> Option<Arc<Exchange>> {
        self.connection.exchange(self.call?, parts, target)
    }
}

impl Clone for ConnectionHandle {
    #[inline]
    fn clone(&self) -> Self {
        let call = self.call.or_else(|| Some(self.connection.calls()));
        Self { connection: Arc::clone(&self.connection), call }
    }
}
