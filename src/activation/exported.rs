//! A socket on its way to the next process, and what that process has to know of its origin.

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc};

use super::names::check_name;
use crate::sys::path::CreatedPath;

/// A duplicate of a socket, for the next process.
#[derive(Debug)]
pub(crate) struct ExportedSocket {
    pub(crate) name: Arc<str>,
    pub(crate) fd: OwnedFd,
    pub(crate) provenance: Provenance,
}

/// Where a socket comes from: it decides who removes its path, and who closes it when no router serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// This process or one before it bound the socket, so no service manager holds it.
    pub(crate) bound: bool,
    /// The path that was created for it, with the device and the inode of that file.
    pub(crate) created: Option<(PathBuf, u64, u64)>,
}

impl ExportedSocket {
    /// Its name as `LISTEN_FDNAMES` can carry it. A socket that was bound by its address alone has none there.
    pub(crate) fn variable_name(&self) -> &str {
        if check_name(&self.name).is_ok() { &self.name } else { "" }
    }
}

impl Provenance {
    /// The path, still owned by the process that created it.
    pub(super) fn created_path(&self) -> Option<CreatedPath> {
        let (path, device, inode) = self.created.clone()?;
        Some(CreatedPath::of_another(path, device, inode))
    }
}
