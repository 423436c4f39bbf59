//! What a set of sockets keeps of a listener that was taken from it.
//!
//! A handoff duplicates the sockets of a process while its listeners go on accepting. So the set and the listener share
//! a handle.
//!
//! The two flags are `Relaxed`: each is a value of its own that publishes no other data. The set writes `shared` in a
//! handoff. The accept loop reads it after it was asked to stop, by a channel or by the token of a drain, and both put
//! the write before the read. `of_route` is set once, before the server accepts, and is read by the handoff of that
//! server.

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
/// The endpoint that accepts from it owns it, and its set knows it weakly: a listener that is dropped closes its
/// socket.
pub(crate) struct ListenerHandle {
    /// Before the socket, see [`CreatedPath`].
    path: Mutex<Option<CreatedPath>>,
    socket: OnceLock<Arc<dyn AsFd + Send + Sync>>,
    /// Another process has the socket too: the launcher that passed it, or a successor.
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

    /// Makes the socket known, once it is registered.
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

    /// Whether another process has the socket too.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// Notes whether another process has the socket too.
    pub(crate) fn set_shared(&self, shared: bool) {
        self.shared.store(shared, Ordering::Relaxed);
    }
}

impl fmt::Debug for ListenerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerHandle").field("path", &self.path).field("shared", &self.shared).finish_non_exhaustive()
    }
}
