//! The fd store of a service manager that the test stands in for: what it receives, and what the next process makes of it.

mod kept;
mod listeners;
pub(crate) mod service;
mod stop;
