//! What a service expects of its units.
//!
//! The setters have the names of those of [`Server`](crate::Server) and of the builder of
//! [`ActivatedListeners`](crate::ActivatedListeners), and the same defaults, so that a program can build both from one
//! configuration.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{addr::ListenAddr, error::Error};

/// What a service expects of its units: set here what you set at [`Server`](crate::Server) and at the builder of
/// [`ActivatedListeners`](crate::ActivatedListeners).
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
    /// A service with the defaults of `Server`: it drains for up to 30 s, notifies the service manager, and hands
    /// nothing over. As long as no name is given, the names of the sockets are not checked.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new().file(
    ///     "app.service",
    ///     "[Service]\nType=notify\nExecStart=/usr/local/bin/app\nTimeoutStopSec=35\n",
    /// );
    /// assert!(check(&units, &Expectation::new()).is_empty());
    /// ```
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

    /// Adds a name that the service serves: that of a route, or of any other socket that is taken by this name.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new()
    ///     .file("app.socket", "[Socket]\nListenStream=8080\n") // its name is `app.socket`
    ///     .file(
    ///         "app.service",
    ///         "[Unit]\nStartLimitIntervalSec=0\n\
    ///          [Service]\nType=notify\nExecStart=/bin/app\nNonBlocking=yes\nTimeoutStopSec=35\n",
    ///     );
    /// let findings = check(&units, &Expectation::new().name("http"));
    /// assert_eq!(findings[0].fix.lines, ["FileDescriptorName=http"]);
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Adds a name that the service binds itself when no socket is passed under it.
    ///
    /// ```
    /// use axum_activation::unit_check::Expectation;
    ///
    /// let expectation = Expectation::new().fallback("http", "127.0.0.1:8080")?;
    /// assert!(Expectation::new().fallback("http", "localhost").unwrap_err().is_invalid_address());
    /// # let _ = expectation;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
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

    /// Allows sockets that no route serves, see [`Server::allow_unserved`](crate::Server::allow_unserved).
    ///
    /// ```
    /// use axum_activation::unit_check::Expectation;
    ///
    /// let expectation = Expectation::new().name("http").allow_unserved();
    /// # let _ = expectation;
    /// ```
    pub fn allow_unserved(mut self) -> Self {
        self.allow_unserved = true;
        self
    }

    /// How long the service drains at most; 30 s by default. `TimeoutStopSec=` has to be longer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new().file("app.service", "[Service]\nType=notify\nExecStart=/bin/app\nTimeoutStopSec=35\n");
    /// let findings = check(&units, &Expectation::new().drain_timeout(Duration::from_secs(60)));
    /// assert_eq!(findings[0].directive, "TimeoutStopSec");
    /// ```
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// Whether the service notifies the service manager, `sd_notify(3)`; it does by default.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new().file("app.service", "[Service]\nType=notify\nExecStart=/bin/app\nTimeoutStopSec=35\n");
    /// let findings = check(&units, &Expectation::new().notify(false));
    /// assert!(findings.iter().any(|finding| finding.directive == "Type"), "systemd would wait for READY=1 in vain");
    /// ```
    pub fn notify(mut self, notify: bool) -> Self {
        self.notify = notify;
        self
    }

    /// Whether `systemctl reload` is to hand the service over to a new process; `false` by default.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new().file("app.service", "[Service]\nType=notify\nExecStart=/bin/app\nTimeoutStopSec=35\n");
    /// let findings = check(&units, &Expectation::new().handoff(true));
    /// assert!(findings.iter().any(|finding| finding.fix.lines.iter().any(|line| line.starts_with("ExecReload="))));
    /// ```
    pub fn handoff(mut self, handoff: bool) -> Self {
        self.handoff = handoff;
        self
    }

    /// How long a handoff takes at most; 30 s by default. `TimeoutStartSec=` has to be longer, as systemd counts a
    /// reload by it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::unit_check::Expectation;
    ///
    /// let expectation = Expectation::new().handoff(true).handoff_timeout(Duration::from_secs(60));
    /// # let _ = expectation;
    /// ```
    pub fn handoff_timeout(mut self, limit: Duration) -> Self {
        self.handoff_timeout = limit;
        self
    }

    /// The path at which the service can be asked for a handoff. It says that the service does hand over.
    ///
    /// ```
    /// use axum_activation::unit_check::Expectation;
    ///
    /// let expectation = Expectation::new().handoff_socket("/run/app/handoff.sock");
    /// # let _ = expectation;
    /// ```
    pub fn handoff_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.handoff_socket = Some(path.into());
        self.handoff(true)
    }

    /// The service sets the directory in which the next process starts
    /// ([`Server::successor_directory`](crate::Server::successor_directory)), so `WorkingDirectory=` may lead through a
    /// symbolic link.
    ///
    /// ```
    /// use axum_activation::unit_check::Expectation;
    ///
    /// let expectation = Expectation::new().handoff(true).successor_directory();
    /// # let _ = expectation;
    /// ```
    pub fn successor_directory(mut self) -> Self {
        self.successor_directory = true;
        self
    }

    /// How many descriptors the service keeps with the service manager over a restart, listeners and idle connections
    /// together; none by default. `FileDescriptorStoreMax=` has to be as many.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new().file("app.service", "[Service]\nType=notify\nExecStart=/bin/app\nTimeoutStopSec=35\n");
    /// let findings = check(&units, &Expectation::new().fd_store(512));
    /// assert!(findings.iter().any(|finding| finding.directive == "FileDescriptorStoreMax"));
    /// ```
    pub fn fd_store(mut self, descriptors: u64) -> Self {
        self.fd_store = descriptors;
        self
    }

    /// How many connections the service has at a time, if that is known. `LimitNOFILE=` has to allow them.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new().file("app.service", "[Service]\nType=notify\nExecStart=/bin/app\nTimeoutStopSec=35\nLimitNOFILE=1024\n");
    /// let findings = check(&units, &Expectation::new().connections(10_000));
    /// assert!(findings.iter().any(|finding| finding.directive == "LimitNOFILE"));
    /// ```
    pub fn connections(mut self, connections: u64) -> Self {
        self.connections = connections;
        self
    }

    /// Whether the service ends when it has nothing to do, to be started again by the next connection.
    ///
    /// ```
    /// use axum_activation::unit_check::{Expectation, Units, check};
    ///
    /// let units = Units::new()
    ///     .file("app.socket", "[Socket]\nListenStream=8080\nFileDescriptorName=http\n")
    ///     .file(
    ///         "app.service",
    ///         "[Unit]\nStartLimitIntervalSec=0\n\
    ///          [Service]\nType=notify\nExecStart=/bin/app\nNonBlocking=yes\nTimeoutStopSec=35\nRestart=always\n",
    ///     );
    /// let findings = check(&units, &Expectation::new().name("http").idle_exit(true));
    /// assert!(findings.iter().any(|finding| finding.directive == "Restart"), "systemd would start it again at once");
    /// ```
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
