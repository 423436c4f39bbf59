//! The descriptors of this process, as `/proc/self/fd` shows them.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

/// `O_CLOEXEC`, as `/proc/self/fdinfo` prints it in octal.
const CLOEXEC: u32 = 0o2_000_000;
/// `O_NONBLOCK`.
const NONBLOCK: u32 = 0o4_000;

/// Every open descriptor, by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FdTable(pub(crate) BTreeMap<i32, Entry>);

/// What a number stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// What `/proc/self/fd/N` links to: `socket:[1234]`, a path.
    pub(crate) target: String,
    pub(crate) close_on_exec: bool,
    pub(crate) nonblocking: bool,
}

impl FdTable {
    /// Of this process, now; without the descriptor that reads it.
    pub(crate) fn now() -> Self {
        let own = format!("/proc/{}/fd", std::process::id());
        let fds = fs::read_dir("/proc/self/fd").unwrap();
        let entries = fds.filter_map(|fd| entry(&fd.unwrap().path())).filter(|(_, entry)| entry.target != own);
        Self(entries.collect())
    }

    /// What `other` holds under the same numbers, whatever its flags.
    pub(crate) fn targets(&self) -> BTreeMap<i32, &str> {
        self.0.iter().map(|(fd, entry)| (*fd, entry.target.as_str())).collect()
    }

    /// Whether `fd` belongs to this process, in the way that everything it claims must: close-on-exec and non-blocking.
    pub(crate) fn is_owned(&self, fd: i32) -> bool {
        self.0.get(&fd).is_some_and(|entry| entry.close_on_exec && entry.nonblocking)
    }
}

fn entry(path: &Path) -> Option<(i32, Entry)> {
    let fd = path.file_name()?.to_str()?.parse().ok()?;
    let target = fs::read_link(path).ok()?.to_string_lossy().into_owned();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
    let (close_on_exec, nonblocking) = (flags & CLOEXEC != 0, flags & NONBLOCK != 0);
    Some((fd, Entry { target, close_on_exec, nonblocking }))
}
