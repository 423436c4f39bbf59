//! Handoffs of a service from process to process, and what may go wrong at each step.
//!
//! The steps are reached by plan (`support/successive.rs`), not by waiting; a successor that misbehaves on the control socket is
//! a program in Python (`support/peer.py`).
//!
//! `HANDOVERS=1000 cargo test --test handoff load::` for so many handoffs a load; 50 or 8 without.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod builds;
mod carried;
mod connections;
mod counted;
mod draining;
mod events;
mod killed;
mod load;
mod main_pid;
mod one_process;
mod orphaned;
mod parents;
mod peers;
mod programs;
mod real;
mod refusals;
mod releases;
mod rendezvous;
mod resumed;
mod roll_back;
mod signals;
mod spawn;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod traces;

#[test]
fn subprocess() {
    support::subprocess::run(&[
        ("generation", support::successive::serve),
        ("serve", rendezvous::process::serve),
        ("pass_on", spawn::passing::pass_on),
        ("pass_many", spawn::passing::pass_many),
        ("start_when_asked", spawn::program::start_when_asked),
    ]);
}
