//! Under a real systemd, booted for each test: what it makes of what the notifier says, and of a server that speaks.
//!
//! Needs root and Debian's packages systemd, util-linux, bsdutils and curl.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod idle;
mod mechanism;
mod obedient;
mod server;
mod truth;

#[path = "../support/child.rs"]
mod child;
#[path = "../support/looks.rs"]
mod looks;
#[path = "../support/needs.rs"]
mod needs;
#[path = "../support/systemd.rs"]
mod systemd;

#[test]
fn scene() {
    child::play(&[("obey", obedient::obey)]);
}
