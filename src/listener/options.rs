//! How a fresh socket is bound.
//!
//! A socket that was passed stays as its launcher made it; set the like there (`Backlog=`, `SocketMode=`,
//! `SocketUser=`, `BindIPv6Only=` of `systemd.socket(5)`).

/// How [`fallback_with`](crate::ActivatedListenersBuilder::fallback_with) and
/// [`listen_with`](crate::ActivatedListeners::listen_with) bind a socket.
///
/// A socket that was passed stays as its launcher made it.
///
/// ```
/// use axum_activation::{ActivatedListeners, ListenOptions};
///
/// let group_only = ListenOptions::new().backlog(256).unix_mode(0o660);
/// let activated = ActivatedListeners::builder()
///     .fallback_with("http", "@axum-activation-options", group_only)
///     .build()?;
/// # drop(activated);
/// # Ok::<(), axum_activation::Error>(())
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
    /// The defaults: a backlog of 4096, Unix sockets as the umask leaves them, and IPv6 wildcards that take IPv4 too.
    ///
    /// ```
    /// use axum_activation::ListenOptions;
    ///
    /// assert_eq!(ListenOptions::new(), ListenOptions::default());
    /// ```
    pub fn new() -> Self {
        Self { backlog: 4096, only_v6: None, unix_mode: None, unix_uid: None, unix_gid: None }
    }

    /// How many connections the kernel completes ahead of `accept` (`listen(2)`); 4096 by default.
    ///
    /// `net.core.somaxconn` caps it, which is 4096 since Linux 5.4. The standard library uses 128, and a burst of 500
    /// clients then waits for a second.
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, ListenOptions};
    ///
    /// let burst = ListenOptions::new().backlog(16_384);
    /// ActivatedListeners::builder().fallback_with("http", "127.0.0.1:0", burst).build()?;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = i32::try_from(connections).unwrap_or(i32::MAX);
        self
    }

    /// Whether an IPv6 socket refuses IPv4 (`IPV6_V6ONLY` of `ipv6(7)`).
    ///
    /// Without it, `:port` takes both, and an IPv6 address follows the system's default (`net.ipv6.bindv6only`). With
    /// it, the same port can be bound for both families apart:
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, ListenOptions};
    ///
    /// let only_v6 = ListenOptions::new().only_v6(true);
    /// ActivatedListeners::builder().fallback_with("http", ":0", only_v6).build()?;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = Some(only);
        self
    }

    /// The permissions of a Unix socket's file, whatever the umask. A client needs the right to write in order to
    /// connect (`unix(7)`).
    ///
    /// They are set before a client can connect. Bits beyond `0o777` are left out.
    ///
    /// ```
    /// use std::os::unix::fs::PermissionsExt;
    /// use axum_activation::{ActivatedListeners, ListenOptions};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("app.sock");
    /// let options = ListenOptions::new().unix_mode(0o660);
    /// let activated = ActivatedListeners::builder().fallback_with("http", path.as_path(), options).build()?;
    /// assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o660);
    /// # drop(activated);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = Some(mode & 0o777);
        self
    }

    /// The owner and the group of a Unix socket's file (`chown(2)`). `None` leaves one as it is.
    ///
    /// They are set before a client can connect. To give a file to another user takes `CAP_CHOWN`; to give it to a
    /// group takes membership.
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, ListenOptions};
    ///
    /// // The group of the proxy in front may connect, and no other.
    /// let proxy = ListenOptions::new().unix_mode(0o660).unix_owner(None, Some(33));
    /// let builder = ActivatedListeners::builder().fallback_with("http", "/run/app/http.sock", proxy);
    /// # drop(builder);
    /// ```
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
