//! Exchanges that handlers leave to the next process, in one process: each generation is a route of its own, and takes
//! what the one before it leaves at once.

mod apps;
mod client;
#[cfg(feature = "websocket")]
mod endings;
mod line;
mod moves;
mod refusals;
