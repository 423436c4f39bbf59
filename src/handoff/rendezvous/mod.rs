//! Two processes of one service meet at a path: the old one listens there, and the new one connects.
//!
//! For services whose next process another program starts: a container engine, a supervisor, a second unit. Each side asks the kernel which
//! user the other one is (`SO_PEERCRED`, `unix(7)`), and goes on with its own user and those that `handoff_peers` names. Both may live in
//! namespaces of their own, where the process id of one means nothing to the other: it is for logs, and no process is killed by it.

pub(crate) mod connect;
pub(crate) mod listen;
pub(crate) mod operator;
pub(crate) mod takeover;

#[cfg(test)]
mod tests;
