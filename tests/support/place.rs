//! Where clients run: in the network of the test, or in another.

use std::{fs::File, os::fd::AsFd, sync::Arc};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Option<Arc<File>>);

impl Place {
    /// The network of that process.
    pub(crate) fn of(pid: u32) -> Self {
        Self(Some(Arc::new(File::open(format!("/proc/{pid}/ns/net")).expect("its network"))))
    }

    /// Moves this thread there for good, and with it the processes that it starts.
    pub(crate) fn enter(&self) {
        if let Some(namespace) = &self.0 {
            let moved = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
            moved.expect("root may enter a network");
        }
    }
}
