//! The handoff from a serving process to the next one, which goes on with its sockets, its state and its idle connections.
//!
//! [`Server`](crate::Server) does it by itself, at SIGHUP, at [`Handoff::start`], or when the next process comes to its
//! [`handoff_socket`](crate::Server::handoff_socket). [`Handoff::alone`] is for services that are served otherwise, and
//! [`request_handoff`] for programs that ask for one. `docs/handoff.md` explains it.
//! The protocol itself is in `src/wire`.

mod alone;
pub(crate) mod attempt;
pub(crate) mod claim;
pub(crate) mod handle;
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
pub(crate) mod ties;

pub use self::{
    alone::{HandoffAlone, Joined, Serving},
    handle::Handoff,
    operator::request_handoff,
    options::{PlainSuccessor, Snapshot},
    spawn::start_process,
};
