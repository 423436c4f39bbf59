//! Processes that find each other at a path, from one container to the next, with programs that know nothing of this crate, and
//! under a server that is not ours.

mod alone;
mod examples;
mod faults;
mod harness;
mod hostile;
mod inits;
mod load;
mod moments;
mod moved;
mod operator;
mod plain;
mod predecessors;
pub(crate) mod process;
mod racing;
mod real;
mod status;
mod users;
mod waits;
