//! The drain ends in time, whatever clients and handlers do: what each client sees then, and what the report says.

mod aborted;
mod begin;
mod bodies;
mod heads;
mod http2;
mod keep_alive_grace;
mod limits;
mod panics;
mod pipeline;
mod queue;
mod service;
mod upgrades;
