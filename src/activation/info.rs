//! What a set of sockets tells of one of them.

use std::{fmt, sync::Arc};

use crate::{addr::ListenAddr, sys::socket::SocketKind};

/// What a set of sockets tells of one of them.
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
    /// The name it was passed or bound under; empty where nobody gave one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel says that it is.
    #[must_use]
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// The address it is bound to; `None` for what has none, a FIFO or a file.
    #[must_use]
    pub fn addr(&self) -> Option<&ListenAddr> {
        self.addr.as_ref()
    }

    /// Whether it was passed to this process; otherwise this process bound it.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.passed
    }

    /// Whether somebody in this process has taken it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.taken
    }

    /// Whether somebody can connect to it, of whatever type it is.
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
