//! What a set of sockets shows of one of them.

use std::{fmt, sync::Arc};

use crate::{addr::ListenAddr, sys::socket::SocketKind};

/// What a set of sockets shows of one of them.
///
/// It prints as one line:
///
/// ```
/// use std::net::TcpListener;
/// use axum_activation::ActivatedListeners;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// let activated = ActivatedListeners::builder().socket("http", listener).build()?;
/// let socket = activated.iter().next().unwrap();
/// assert_eq!(socket.to_string(), format!("http: {addr} (passed)"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivatedSocket {
    pub(super) name: Arc<str>,
    pub(super) kind: SocketKind,
    pub(super) addr: Option<ListenAddr>,
    pub(super) passed: bool,
    pub(super) listening: bool,
    pub(super) taken: bool,
}

impl ActivatedSocket {
    /// The name it was passed or bound under. It is empty where it was passed without one.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// assert_eq!(activated.iter().next().unwrap().name(), "http");
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel says that it is.
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, SocketFamily, SocketKind};
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// assert_eq!(activated.iter().next().unwrap().kind(), SocketKind::Listener(SocketFamily::Ipv4));
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// The address it is bound to; `None` for what has none, a FIFO or a file.
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, ListenAddr};
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let socket = activated.iter().next().unwrap();
    /// assert!(matches!(socket.addr(), Some(ListenAddr::Tcp(addr)) if addr.port() != 0));
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn addr(&self) -> Option<&ListenAddr> {
        self.addr.as_ref()
    }

    /// Whether it was passed to this process; otherwise this process bound it.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// assert!(!activated.iter().next().unwrap().is_passed());
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.passed
    }

    /// Whether it was taken from the set.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let _listener = activated.one("http")?;
    /// assert!(activated.iter().next().unwrap().is_taken());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.taken
    }

    /// Whether a client can connect to it (`SO_ACCEPTCONN`), of whatever type it is.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// assert!(activated.iter().next().unwrap().is_listening());
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.listening
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// The address in words, for messages.
    pub(crate) fn place(&self) -> String {
        self.addr.as_ref().map_or_else(|| self.kind.to_string(), ToString::to_string)
    }
}

/// `http: 127.0.0.1:8080 (passed, taken)`.
impl fmt::Display for ActivatedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = if self.passed { "passed" } else { "bound" };
        let taken = if self.taken { ", taken" } else { "" };
        write!(f, "{}: {} ({origin}{taken})", self.name, self.place())
    }
}
