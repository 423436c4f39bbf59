//! Under a real systemd, booted for each test: what it makes of what the notifier says, and of a server that speaks.
//!
//! Needs root and Debian's packages systemd, util-linux, bsdutils and curl.

mod idle;
mod mechanism;
pub(crate) mod obedient;
mod server;
mod truth;
