//! Everything that can be wrong with what a process is passed: a clear error, and no descriptor lost or stolen.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod environment;
mod fallbacks;
mod kinds;

#[path = "../support/child.rs"]
mod child;
#[path = "../support/fd_table.rs"]
mod fd_table;
#[path = "../support/seen.rs"]
mod seen;
#[path = "../support/sockets.rs"]
mod sockets;

#[test]
fn scene() {
    child::play(&[
        ("claim", environment::claim),
        ("claim_and_start_a_child", environment::claim_and_start_a_child),
        ("claim_leaving", environment::claim_leaving),
        ("claim_beside_own_file", environment::claim_beside_own_file),
        ("take", kinds::take),
        ("take_twice", kinds::take_twice),
        ("fall_back", fallbacks::fall_back),
    ]);
}
