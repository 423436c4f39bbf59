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

/// Whether a line of the table is asked for: its name contains what was given without dashes, if anything was.
#[allow(dead_code, reason = "not every bench has lines")]
pub(crate) fn is_wanted(line: &str) -> bool {
    let mut wanted = env::args().skip(1).filter(|arg| !arg.starts_with("--")).peekable();
    wanted.peek().is_none() || wanted.any(|wanted| line.contains(&wanted))
}
