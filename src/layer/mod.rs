//! Tower layers, for services that are not served by [`Server`](crate::Server).
//!
//! [`DrainLayer`] makes a [`Drain`](crate::Drain) known to requests, and requests to the drain. Together with
//! [`stop_on`](crate::ActivatedListener::stop_on) and [`drive`](crate::Drain::run_server) it is the graceful shutdown of
//! `axum::serve`, tonic and other tower servers.

mod drain;

pub use self::drain::{DrainLayer, DrainService, ResponseBody, ResponseFuture};
