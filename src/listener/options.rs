//! How a fresh socket is bound.

/// How [`fallback_with`](crate::ActivatedListenersBuilder::fallback_with) and
/// [`listen_with`](crate::ActivatedListeners::listen_with) bind; a socket that was passed stays as its opener made it.
///
/// ```
/// use axum_activation::ListenOptions;
///
/// let group_only = ListenOptions::new().unix_mode(0o660).unix_owner(None, Some(33));
/// # let _ = group_only;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct ListenOptions {
    pub(crate) backlog: i32,
    pub(crate) only_v6: Option<bool>,
    pub(crate) unix_mode: Option<u32>,
    pub(crate) unix_uid: Option<u32>,
    pub(crate) unix_gid: Option<u32>,
}

impl ListenOptions {
    /// A backlog of 4096, Unix sockets as the umask leaves them, and IPv6 wildcards that take IPv4 too.
    pub fn new() -> Self {
        Self { backlog: 4096, only_v6: None, unix_mode: None, unix_uid: None, unix_gid: None }
    }

    /// How many connections the kernel completes ahead of `accept` (`listen(2)`; `net.core.somaxconn` caps it).
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = i32::try_from(connections).unwrap_or(i32::MAX);
        self
    }

    /// Whether an IPv6 socket refuses IPv4 (`IPV6_V6ONLY` of `ipv6(7)`). Without it, `:port` takes both and an address
    /// follows the system's default.
    pub fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = Some(only);
        self
    }

    /// The permissions of a Unix socket's file, whatever the umask; connecting takes the right to write. Set before
    /// anybody can connect.
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = Some(mode & 0o777);
        self
    }

    /// The owner and the group of a Unix socket's file; `None` leaves one as it is. Set before anybody can connect.
    pub fn unix_owner(mut self, uid: Option<u32>, gid: Option<u32>) -> Self {
        self.unix_uid = uid;
        self.unix_gid = gid;
        self
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::new()
    }
}
