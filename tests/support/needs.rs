//! What a test finds on the machine, or says how to get.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The directory of the example programs that were built with this test.
pub(crate) fn examples() -> PathBuf {
    let test = env::current_exe().expect("a test program has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests are built in target/PROFILE/deps");
    profile.join("examples")
}

/// The example program of that name; fails where it is missing or older than what it was built from.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = examples().join(name);
    let fresh = is_fresh(&path).unwrap_or(false);
    assert!(fresh, "this test needs {}: cargo build --examples (a plain cargo test builds them)", path.display());
    path
}

/// Fails unless the machine has that program, which Debian has in that package.
pub(crate) fn program(name: &str, package: &str) {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| dir.join(name).exists());
    assert!(found, "this test needs {name}, of Debian's package {package}: apt-get install {package}");
}

/// Fails unless the system in that root tree has that program.
pub(crate) fn program_in(root: &Path, name: &str, package: &str) {
    let found = root.join("usr/bin").join(name).exists();
    assert!(found, "this test needs {name} in {}, of Debian's package {package}", root.display());
}

/// Cargo lists the sources of a program in a file beside it: `program: source source`.
fn is_fresh(program: &Path) -> io::Result<bool> {
    let built = modified(program)?;
    let sources = fs::read_to_string(program.with_extension("d"))?;
    Ok(sources
        .split_whitespace()
        .skip(1)
        .all(|source| modified(Path::new(source)).is_ok_and(|changed| changed <= built)))
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}
