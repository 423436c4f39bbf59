//! The new process of a handoff: it learns what it takes over, gets ready, and waits for the commit.

pub(crate) mod provenance;
pub(crate) mod takeover;
