//! The old process of a handoff: it starts or meets the new one, commits, and leaves.

pub(crate) mod final_state;
pub(crate) mod generation;
pub(crate) mod plain;
pub(crate) mod prepare;
pub(crate) mod successor;
pub(crate) mod transfer;
