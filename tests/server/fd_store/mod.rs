//! The fd store of a service manager that the test plays: what it is told and given, and what the next process makes of it.

mod kept;
mod listeners;
pub(crate) mod service;
mod stop;
