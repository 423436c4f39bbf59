//! Sockets that a process is passed: what a set of them says of itself, how they are taken, and everything that can be wrong with
//! them, which is a clear error and loses or steals no descriptor.
#![cfg_attr(not(feature = "server"), allow(dead_code, unused_imports, reason = "some tests need a feature"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod ancestors;
mod environment;
mod fallbacks;
mod kinds;
mod set;
#[cfg(feature = "server")]
mod socket_activate;
#[path = "../support/mod.rs"]
mod support;

use self::{ancestors::subprocesses, support::subprocess};

#[test]
fn subprocess() {
    subprocess::run(&[
        ("describe", set::describe),
        ("fall_back", set::fall_back),
        ("claim_many", set::claim_many),
        #[cfg(feature = "handoff")]
        ("claim_while_another_meets", set::claim_while_another_meets),
        ("claim_while_another_looks_up", set::claim_while_another_looks_up),
        ("claim", environment::claim),
        ("claim_and_start_a_child", environment::claim_and_start_a_child),
        ("claim_leaving", environment::claim_leaving),
        ("claim_beside_own_file", environment::claim_beside_own_file),
        ("take", kinds::take),
        ("take_twice", kinds::take_twice),
        ("fall_back_in_vain", fallbacks::fall_back_in_vain),
        ("files", subprocesses::files),
        ("listeners", subprocesses::listeners),
        ("one_listener", subprocesses::one_listener),
        ("twice", subprocesses::twice),
        ("listen", subprocesses::listen),
        ("listen_anyhow", subprocesses::listen_anyhow),
        #[cfg(feature = "handoff")]
        ("start_process", subprocesses::start_process),
    ]);
}
