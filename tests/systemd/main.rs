//! Under a real systemd, booted for each test: the units that are shipped, the fd store, what systemd makes of notifications, and
//! `systemctl reload`.
//!
//! Needs root and Debian's packages systemd, util-linux, bsdutils and curl. `RELOADS=60` in the environment asks
//! for so many reloads a load; 20 without.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fd_store;
mod notify;
mod reload;
#[path = "../support/mod.rs"]
mod support;
mod units;

#[test]
fn subprocess() {
    support::subprocess::run(&[("obey", notify::obedient::obey)]);
}

/// Does nothing but in a process that systemd has started.
#[test]
fn service() {
    fd_store::service::serve();
    reload::service::serve();
}
