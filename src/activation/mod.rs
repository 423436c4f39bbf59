//! Sockets by name: from the environment, from fallbacks, owned once.

mod builder;
mod claim;
mod environment;
mod export;
mod exported;
mod import;
mod info;
mod loan;
mod moved;
mod names;
mod predecessor;
mod requirement;
mod restored;
mod set;
mod slot;
mod start_context;
mod stored;
mod take;

pub use self::{builder::ActivatedListenersBuilder, claim::ForeignPid, info::ActivatedSocket, set::ActivatedListeners};
pub(crate) use self::{
    exported::{ExportedSocket, Provenance},
    moved::BOUND,
    names::{CONNECTIONS_NAME, CONTROL_NAME, check_name},
    predecessor::Predecessor,
    start_context::{HELD_OFF, Parent, StartContext, held_off},
};
