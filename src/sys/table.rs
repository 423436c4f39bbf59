//! How many more file descriptors this process may have: `RLIMIT_NOFILE` of `getrlimit(2)`.
//!
//! A server raises its soft limit at its start, as each connection is a descriptor. The next process gets the limit
//! that this one was started with, so that it decides anew, and so that a child which closes every number below its
//! limit does not take minutes.
//!
//! The limit is a property of the process, so what has been changed is in one place for all servers of it.

use std::{
    fs, io,
    sync::{Mutex, PoisonError},
};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Where the descriptors of this process are listed.
const LISTED: &str = "/proc/self/fd";

/// The most that [`raise_limit`] raises the soft limit to. Children inherit it, and some programs close every number below it
/// when they start: where the hard limit is a billion, as in some containers, that takes minutes.
const MOST: u64 = 65_536;

/// What a new process needs at least, beside the descriptors that it is passed.
const RESERVE: u64 = 256;

/// How this process has changed its limit.
static RAISED: Mutex<Option<Raised>> = Mutex::new(None);

#[derive(Clone, Copy, Debug)]
struct Raised {
    from: u64,
    to: u64,
}

/// How many descriptors can still be opened. May take a few milliseconds where the kernel does not count them (before 6.2).
pub(crate) fn room() -> io::Result<usize> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Ok(usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(open()?))
}

/// Raises the soft limit to the hard one, or to 65,536 where that is less; what cannot be raised stays.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    let to = limit.maximum.unwrap_or(u64::MAX).min(MOST);
    let Some(from) = limit.current.filter(|from| *from < to) else { return };
    limit.current = Some(to);
    if setrlimit(Resource::Nofile, limit).is_ok() {
        *RAISED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Raised { from, to });
    }
}

/// The soft limit of the next process of this service, which is passed so many descriptors: as it was here before
/// [`raise_limit`]. `None` where it stays, as it was not raised, or has been changed since.
pub(crate) fn limit_of_next(passed: usize) -> Option<u64> {
    let raised = *RAISED.lock().unwrap_or_else(PoisonError::into_inner);
    let Raised { from, to } = raised.filter(|raised| getrlimit(Resource::Nofile).current == Some(raised.to))?;
    let needed = u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(RESERVE);
    Some(from.max(needed).min(to))
}

fn open() -> io::Result<usize> {
    match fs::metadata(LISTED)?.len() {
        0 => Ok(fs::read_dir(LISTED)?.count()),
        open => Ok(usize::try_from(open).unwrap_or(usize::MAX)),
    }
}
