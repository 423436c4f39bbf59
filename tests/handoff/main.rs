//! Handoffs of a service from process to process, and what may go wrong at each step.
//!
//! The steps are reached by plan (`support/successive.rs`), not by waiting; a successor that misbehaves on the control socket is
//! a program in Python (`support/peer.py`).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod connections;
mod draining;
mod events;
mod killed;
mod main_pid;
mod one_process;
mod orphaned;
mod parents;
mod peers;
mod programs;
mod refusals;
mod releases;
mod roll_back;
mod signals;
mod state;
mod threads;
mod traces;

#[path = "../support"]
mod support {
    pub(crate) mod clients;
    pub(crate) mod lasting;
    pub(crate) mod manager;
    pub(crate) mod needs;
    pub(crate) mod service;
    pub(crate) mod successive;
    pub(crate) mod wire;
}

#[test]
fn generation() {
    support::successive::serve();
}
