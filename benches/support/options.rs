//! What a benchmark is asked for on its command line.

use std::env;

/// Whether a look at it working will do. So it is without `--bench`, which `cargo bench` passes: then it is
/// `cargo test --benches`.
pub(crate) fn is_short() -> bool {
    is_given("--short") || !is_given("--bench")
}

fn is_given(option: &str) -> bool {
    env::args().any(|arg| arg == option)
}
