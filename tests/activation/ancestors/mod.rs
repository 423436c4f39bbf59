//! Every function of the two Go packages that this crate comes after: the same result on the same input.
//!
//! `docs/contributing/ancestors.md` has the table, and the reasons for what differs.

mod go_systemd;
mod gracenet;
pub(crate) mod subprocesses;
