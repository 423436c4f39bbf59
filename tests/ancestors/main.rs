//! Every function of the two Go packages that this crate comes after: the same result on the same input.
//!
//! `docs/ancestors.md` has the table, and the reasons for what differs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod go_systemd;
mod gracenet;
mod scenes;

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
        ("files", scenes::files),
        ("listeners", scenes::listeners),
        ("one_listener", scenes::one_listener),
        ("twice", scenes::twice),
        ("listen", scenes::listen),
        ("listen_anyhow", scenes::listen_anyhow),
        ("start_process", scenes::start_process),
    ]);
}
