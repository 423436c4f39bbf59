//! Graceful shutdown: that it ends in time, what each client sees of it, and that no request is lost.
//!
//! The tests of `load` read from `DRAINS` how many drains they do.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod deadline;
mod layer;
mod load;
mod streams;
#[path = "../support/mod.rs"]
mod support;

#[test]
fn subprocess() {
    support::subprocess::run(&[("generation", support::generation::serve)]);
}
