//! The hand-over to the next process: mechanism only, [`Server`](crate::Server) has the policy.

pub(crate) mod connection;
