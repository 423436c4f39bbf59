//! How many more file descriptors this process may have: `RLIMIT_NOFILE` of `getrlimit(2)`.

use std::{fs, io};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Where the descriptors of this process are listed.
const LISTED: &str = "/proc/self/fd";

/// How many descriptors can still be opened. May take a few milliseconds where the kernel does not count them (before 6.2).
pub(crate) fn room() -> io::Result<usize> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Ok(usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(open()?))
}

/// Raises the soft limit to the hard one; what cannot be raised stays.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

fn open() -> io::Result<usize> {
    match fs::metadata(LISTED)?.len() {
        0 => Ok(fs::read_dir(LISTED)?.count()),
        open => Ok(usize::try_from(open).unwrap_or(usize::MAX)),
    }
}
