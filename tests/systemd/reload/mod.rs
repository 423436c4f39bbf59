//! Under a real systemd, booted for each test: `systemctl reload` of the unit that is shipped hands over, waits, and is true.
//!
//! Needs root and Debian's packages systemd, util-linux, bsdutils and curl. 20 reloads a load; `RELOADS=60` in the environment asks for so many.

mod failures;
mod policy;
mod reloads;
pub(crate) mod service;
mod stops;
