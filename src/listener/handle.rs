//! What a set of sockets keeps of a listener that was taken from it.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::sys::path::CreatedPath;

/// A listening socket that is in use: as long as it is, it can be passed on.
///
/// Owned by the endpoint that accepts from it, and known to its set weakly: a listener that is dropped closes its socket.
pub(crate) struct ListenerHandle {
    /// Before the socket, see [`CreatedPath`].
    path: Mutex<Option<CreatedPath>>,
    socket: OnceLock<Arc<dyn AsFd + Send + Sync>>,
    /// Somebody else has the socket too: whoever passed it, or a successor.
    shared: AtomicBool,
    /// A route of [`Server`](crate::Server) accepts from it, and stops when a handoff asks it to.
    of_route: AtomicBool,
}

impl ListenerHandle {
    pub(crate) fn new(path: Option<CreatedPath>, shared: bool) -> Self {
        Self {
            path: Mutex::new(path),
            socket: OnceLock::new(),
            shared: AtomicBool::new(shared),
            of_route: AtomicBool::new(false),
        }
    }

    pub(super) fn set_socket(&self, socket: Arc<dyn AsFd + Send + Sync>) {
        let _ = self.socket.set(socket);
    }

    /// A duplicate of its descriptor; `None` before it is registered.
    pub(crate) fn duplicate(&self) -> Option<io::Result<OwnedFd>> {
        self.socket.get().map(|socket| socket.as_fd().try_clone_to_owned())
    }

    /// Does something to the socket itself; `None` before it is registered.
    pub(crate) fn with_socket<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        self.socket.get().map(|socket| act(socket.as_fd()))
    }

    /// Whether a route of [`Server`](crate::Server) accepts from it.
    pub(crate) fn is_of_route(&self) -> bool {
        self.of_route.load(Ordering::Relaxed)
    }

    pub(super) fn note_route(&self) {
        self.of_route.store(true, Ordering::Relaxed);
    }

    /// The path that it, or a predecessor, created.
    pub(crate) fn path(&self) -> MutexGuard<'_, Option<CreatedPath>> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    pub(crate) fn set_shared(&self, shared: bool) {
        self.shared.store(shared, Ordering::Relaxed);
    }
}

impl fmt::Debug for ListenerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerHandle").field("path", &self.path).field("shared", &self.shared).finish_non_exhaustive()
    }
}
