//! The handoff from a serving process to the next one, which goes on with its sockets, its state and its idle connections.
//!
//! [`Server`](crate::Server) does it by itself, at SIGHUP, at [`Handoff::start`], or when the next process comes to its
//! [`handoff_socket`](crate::ActivatedListenersBuilder::handoff_socket). [`Handoff::builder`] is for services that are served otherwise, and
//! [`request_handoff`] for programs that ask for one. `docs/handoff.md` explains it.
//! The protocol itself is in `src/wire`.

pub(crate) mod attempt;
mod builder;
pub(crate) mod claim;
pub(crate) mod handle;
pub(crate) mod hook;
pub(crate) mod interrupt;
pub(crate) mod joining;
mod main_pid;
pub(crate) mod meeting;
mod operator;
pub(crate) mod options;
pub(crate) mod plain;
pub(crate) mod rendezvous;
pub(crate) mod requests;
mod spawn;
pub(crate) mod spawn_policy;
pub(crate) mod state_part;
pub(crate) mod ties;

pub use self::{
    builder::{Active, HandoffBuilder, Pending},
    handle::Handoff,
    operator::request_handoff,
    options::PlainSuccessor,
    spawn::start_process,
    state_part::{Snapshot, StatePart},
};
