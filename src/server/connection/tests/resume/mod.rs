//! Exchanges that handlers leave to the next process, in one process: each generation is a route of its own, and takes
//! what the one before it leaves at once.

#![cfg_attr(not(feature = "websocket"), allow(dead_code))]

mod apps;
mod client;
#[cfg(feature = "websocket")]
mod endings;
mod line;
mod moves;
#[cfg(feature = "websocket")]
mod random;
mod refusals;
