//! The environment for the fuzz targets: variables in, what was understood out.

use std::{ffi::OsString, ops::Range, os::fd::RawFd};

use super::{
    environment::{Environment, Identity},
    stored,
};
use crate::error::Error;

/// The variables of `sd_listen_fds(3)`.
#[derive(Debug, Default)]
pub struct Variables {
    /// `LISTEN_PID`
    pub pid: Option<OsString>,
    /// `LISTEN_PIDFDID`
    pub pidfd_id: Option<OsString>,
    /// `LISTEN_FDS`
    pub fds: Option<OsString>,
    /// `LISTEN_FDS_FIRST_FD`
    pub first: Option<OsString>,
    /// `LISTEN_FDNAMES`
    pub names: Option<OsString>,
}

/// What the variables pass.
#[derive(Debug)]
pub struct Listened {
    /// The numbers of the descriptors.
    pub range: Range<RawFd>,
    /// The first of their names.
    pub names: Vec<String>,
}

/// Reads the variables as the process `pid` with the pidfd `pidfd_id`.
pub fn listen(variables: &Variables, pid: u32, pidfd_id: Option<u64>, ignore_pid: bool) -> Result<Listened, Error> {
    /// There may be as many descriptors as numbers.
    const MOST_NAMES: usize = 10_000;
    let Variables { pid: pid_text, pidfd_id: pidfd_text, fds, first, names } = variables;
    let environment = Environment {
        pid: pid_text.clone(),
        pidfd_id: pidfd_text.clone(),
        fds: fds.clone(),
        first: first.clone(),
        names: names.clone(),
    };
    let passed = environment.passed(&Identity { pid, pidfd_id }, ignore_pid)?;
    let most = if names.is_some() { MOST_NAMES } else { 0 };
    Ok(Listened { range: passed.range(), names: passed.names().take(most).map(str::to_owned).collect() })
}

/// The listener of a name in the fd store, with the device and inode of its path.
pub fn stored_name(text: &str) -> Option<(String, Option<(u64, u64)>)> {
    stored::parse(text)
}

/// The name in the fd store of a listener.
pub fn name_in_store(name: &str, file: Option<(u64, u64)>) -> Option<String> {
    stored::store_name(name, file)
}
