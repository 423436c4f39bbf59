//! A plain restart that closes no connection, as the fd store keeps them.

mod builds;
mod crashes;
mod limits;
mod real;
mod restarts;
pub(crate) mod service;
