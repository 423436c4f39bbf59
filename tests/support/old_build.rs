//! The last build before connections other than idle HTTP/1 could move, to meet today's: `OLD=1 tests/run` makes it.

use std::{env, path::PathBuf};

/// Where `tests/run` says that it is: a folder with the test programs of that build.
const OLD_BUILD: &str = "OLD_BUILD";

/// The test program of that name in that build; `None` where there is none, and the test is not done.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let folder = env::var_os(OLD_BUILD);
    if folder.is_none() {
        println!("not done: there is no build to compare with, OLD=1 tests/run makes one");
    }
    let program = PathBuf::from(folder?).join(name);
    assert!(program.is_file(), "{} is missing, OLD=1 tests/run makes it", program.display());
    Some(program)
}
