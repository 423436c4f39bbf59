//! What a service expects of its units.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{addr::ListenAddr, error::Error};

/// What a service expects of its units: say here what you say to `Server` and to the builder of `ActivatedListeners`.
///
/// ```
/// use std::time::Duration;
/// use axum_activation::unit_check::Expectation;
///
/// let expectation = Expectation::new()
///     .name("http")
///     .fallback("admin", "unix:/run/app/admin.sock")?
///     .drain_timeout(Duration::from_secs(20))
///     .handoff(true);
/// # let _ = expectation;
/// # Ok::<(), axum_activation::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Expectation {
    pub(super) names: Vec<String>,
    pub(super) fallbacks: Vec<(String, ListenAddr)>,
    pub(super) allow_unserved: bool,
    pub(super) drain_timeout: Duration,
    pub(super) notify: bool,
    pub(super) handoff: bool,
    pub(super) handoff_timeout: Duration,
    pub(super) handoff_socket: Option<PathBuf>,
    pub(super) successor_directory: bool,
    pub(super) fd_store: u64,
    pub(super) connections: u64,
    pub(super) idle_exit: bool,
}

impl Expectation {
    /// A service with the defaults of `Server`: it drains for up to 30 s, tells the service manager how it is, and hands nothing
    /// over. As long as no name is given, the names of the sockets are not looked at.
    pub fn new() -> Self {
        Self {
            names: Vec::new(),
            fallbacks: Vec::new(),
            allow_unserved: false,
            drain_timeout: Duration::from_secs(30),
            notify: true,
            handoff: false,
            handoff_timeout: Duration::from_secs(30),
            handoff_socket: None,
            successor_directory: false,
            fd_store: 0,
            connections: 0,
            idle_exit: false,
        }
    }

    /// A route, or any other socket that is taken by this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// A name that the service binds itself when nobody passes a socket under it.
    ///
    /// # Errors
    ///
    /// `addr` is no address ([`Error::is_invalid_address`]).
    pub fn fallback<A>(mut self, name: impl Into<String>, addr: A) -> Result<Self, Error>
    where
        A: TryInto<ListenAddr>,
        A::Error: Into<Error>,
    {
        self.fallbacks.push((name.into(), addr.try_into().map_err(Into::into)?));
        Ok(self)
    }

    /// A socket that was passed and that no route serves is no fault.
    pub fn allow_unserved(mut self) -> Self {
        self.allow_unserved = true;
        self
    }

    /// How long the service drains at most; 30 s by default.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// Whether the service tells the service manager how it is, `sd_notify(3)`; it does by default.
    pub fn notify(mut self, notify: bool) -> Self {
        self.notify = notify;
        self
    }

    /// Whether `systemctl reload` is to hand the service over to a new process.
    pub fn handoff(mut self, handoff: bool) -> Self {
        self.handoff = handoff;
        self
    }

    /// How long a handoff takes at most; 30 s by default.
    pub fn handoff_timeout(mut self, limit: Duration) -> Self {
        self.handoff_timeout = limit;
        self
    }

    /// The path at which the service can be asked for a handoff, and that it does hand over.
    pub fn handoff_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.handoff_socket = Some(path.into());
        self.handoff(true)
    }

    /// The service says itself in which directory the next process starts (`Server::successor_directory`), so that
    /// `WorkingDirectory=` may lead through a symbolic link.
    pub fn successor_directory(mut self) -> Self {
        self.successor_directory = true;
        self
    }

    /// How many descriptors the service keeps with the service manager over a restart, listeners and idle connections
    /// together; none by default.
    pub fn fd_store(mut self, descriptors: u64) -> Self {
        self.fd_store = descriptors;
        self
    }

    /// How many connections the service has at once, if it is known.
    pub fn connections(mut self, connections: u64) -> Self {
        self.connections = connections;
        self
    }

    /// Whether the service ends when it has nothing to do, to be started again by the next connection.
    pub fn idle_exit(mut self, idle_exit: bool) -> Self {
        self.idle_exit = idle_exit;
        self
    }

    /// Every name that is served.
    pub(super) fn served(&self) -> Vec<&str> {
        self.names.iter().chain(self.fallbacks.iter().map(|(name, _)| name)).map(String::as_str).collect()
    }

    pub(super) fn has_fallback(&self, name: &str) -> bool {
        self.fallbacks.iter().any(|(known, _)| known == name)
    }

    /// The name of the fallback that is bound at `path`.
    pub(super) fn fallback_at(&self, path: &Path) -> Option<&str> {
        let is_there = |addr: &ListenAddr| matches!(addr, ListenAddr::Unix(bound) if bound == path);
        self.fallbacks.iter().find(|(_, addr)| is_there(addr)).map(|(name, _)| name.as_str())
    }

    /// The Unix paths that the service binds itself, given the names that it is passed.
    pub(super) fn own_paths(&self, passed: &[String]) -> Vec<&Path> {
        let unpassed = self.fallbacks.iter().filter(|(name, _)| !passed.contains(name));
        let bound = unpassed.filter_map(|(_, addr)| match addr {
            ListenAddr::Unix(path) => Some(path.as_path()),
            _ => None,
        });
        bound.chain(self.handoff_socket.as_deref()).collect()
    }
}

impl Default for Expectation {
    fn default() -> Self {
        Self::new()
    }
}
