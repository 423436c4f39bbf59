//! The hand-over to the next process: mechanism only, [`Server`](crate::Server) has the policy.

pub(crate) mod connection;
mod spawn;

pub use self::spawn::start_process;
