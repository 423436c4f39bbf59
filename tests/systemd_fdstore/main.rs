//! Under a real systemd, booted for each test: a plain restart that closes no connection, as the fd store keeps them.
//!
//! Needs root and Debian's packages systemd, util-linux, bsdutils and curl.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod crashes;
mod limits;
mod restarts;
mod service;

#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../support/load.rs"]
mod load;
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
