//! Under a real systemd, booted for each test: `systemctl reload` of the unit that is shipped hands over, waits, and is true.
//!
//! Needs root and Debian's packages systemd, util-linux, bsdutils and curl. 20 reloads a load; `RELOADS=60` in the environment asks for so many.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod failures;
mod policy;
mod reloads;
mod service;
mod stops;

#[path = "../support/looks.rs"]
mod looks;
#[path = "../support/needs.rs"]
mod needs;
#[path = "../support/systemd.rs"]
mod systemd;

#[path = "../support"]
mod support {
    pub(crate) mod clients;
    pub(crate) mod wire;
}

/// Does nothing but in a process that systemd has started.
#[test]
fn service() {
    service::serve();
}
