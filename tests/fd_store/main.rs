//! The fd store of a service manager that the test plays: what it is told and given, and what the next process makes of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod kept;
mod listeners;
mod service;
mod stop;

#[path = "../support/child.rs"]
mod child;
#[path = "../support/manager.rs"]
mod manager;
#[path = "../support"]
mod support {
    pub(crate) mod eventually;
    pub(crate) mod wire;
}

#[test]
fn scene() {
    child::play(&[("serve", service::serve)]);
}
