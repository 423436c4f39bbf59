//! Processes that meet: at a path, from one container to the next, with programs that know nothing of this crate, and under a
//! server that is not ours.
//!
//! `HANDOVERS=1000 cargo test --test meeting` for so many handoffs under load; 8 without.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod alone;
mod faults;
mod hostile;
mod inits;
mod load;
mod moments;
mod moved;
mod operator;
mod plain;
mod predecessors;
mod process;
mod racing;
mod rig;
mod users;
mod waits;

#[path = "../support"]
mod support {
    pub(crate) mod child;
    pub(crate) mod clients;
    pub(crate) mod needs;
    pub(crate) mod wire;
}

#[test]
fn scene() {
    support::child::play(&[("serve", process::serve)]);
}
