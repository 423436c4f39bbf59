//! How the next process is started, and whether it may be.

pub(crate) mod claim;
pub(crate) mod next_process;
pub(crate) mod permit;
pub(crate) mod policy;
pub(crate) mod started;
