//! The one error type of the crate.

use std::{error::Error as StdError, fmt, io, ops::Range, os::fd::RawFd, path::PathBuf};

use crate::sys::socket::SocketKind;

/// What went wrong, with the socket or the variable it concerns and what to do about it.
///
/// Opaque, so that messages and causes can grow; ask it with its `is_` methods. An [`io::Error`] that caused it is its
/// [`source`](StdError::source). It converts into an [`io::Error`], for a `main` that returns [`io::Result`].
pub struct Error {
    kind: Box<Kind>,
}

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug)]
pub(crate) enum Kind {
    /// A variable of the activation protocol says something impossible.
    Environment { variable: &'static str, value: String, problem: String },
    /// The sockets are meant for another process.
    PidMismatch { variable: &'static str, value: String, own: String },
    /// The environment promises a descriptor that is closed.
    ClosedFd { fd: RawFd, promised: Range<RawFd> },
    /// The environment promises a descriptor that this process opened itself.
    OwnedFd { fd: RawFd, promised: Range<RawFd> },
    /// Nobody passed or bound a socket of that name.
    UnknownName { name: String, known: Vec<String>, has_predecessor: bool },
    /// Every socket of that name has been taken.
    Taken { name: String },
    /// A socket of that name is something else than what was asked for.
    WrongSocket { name: String, wanted: &'static str, found: SocketKind, address: Option<String>, remedy: &'static str },
    /// Text that is no address.
    Address { text: String, problem: String },
    /// A name that the activation protocol cannot carry.
    Name { name: String, problem: &'static str },
    /// A unit that cannot be checked.
    Unit { unit: String, problem: &'static str, source: Option<io::Error> },
    /// A fresh bind failed.
    Bind { address: String, remedy: String, source: io::Error },
    /// Anything on a passed or bound socket that the system refused.
    Socket { name: String, doing: &'static str, source: io::Error },
    /// Called outside a tokio runtime.
    NoRuntime { name: String },
    /// Asked of a set that a handler was shown.
    ShownOnly { name: String },
    /// A listening socket that no route serves.
    Unserved { name: String, address: String, routes: Vec<String> },
    /// A server without a route.
    NoRoute,
    /// A server that may serve no connection.
    NoConnections,
    /// Two routes under one name.
    TwoRoutes { name: String },
    /// One connection (`Accept=yes`), several routes and none of its name.
    AmbiguousConnection { name: String, routes: Vec<String> },
    /// Signal handlers could not be installed.
    Signal { source: io::Error },
    /// The service manager cannot be spoken to, or does not answer.
    Notify { address: String, doing: &'static str, source: io::Error },
    /// The service itself says that it cannot start.
    NotReady { reason: String },
    /// The next process could not be started.
    Start { program: PathBuf, remedy: String, source: io::Error },
    /// PID 1 asked to start its successor.
    SpawnAsInit,
    /// This process may not start its successor: a successful handoff would end the service.
    SpawnRefused { reason: String },
    /// Two servers of one process want to hand it over.
    TwoCoordinators,
    /// A handoff came to nothing.
    Handover { reason: String },
    /// The predecessor did not let this process take over, or could not be understood.
    Predecessor { reason: String },
    /// The process that serves cannot be met at a path.
    Rendezvous { path: PathBuf, problem: String, source: io::Error },
    /// A process that was asked to hand over did not.
    Requested { path: PathBuf, reason: String },
}

impl Error {
    /// The sockets in the environment are meant for another process (`LISTEN_PID` or `LISTEN_PIDFDID` is not ours).
    ///
    /// Go's `systemd.ErrPIDMismatch`.
    #[must_use]
    #[doc(alias = "ErrPIDMismatch")]
    pub fn is_pid_mismatch(&self) -> bool {
        matches!(*self.kind, Kind::PidMismatch { .. })
    }

    /// A `LISTEN_*` variable cannot be understood, or does not fit the descriptors that are there.
    #[must_use]
    pub fn is_invalid_environment(&self) -> bool {
        matches!(*self.kind, Kind::Environment { .. } | Kind::ClosedFd { .. } | Kind::OwnedFd { .. })
    }

    /// Nobody passed a socket of that name, and no fallback was given for it.
    #[must_use]
    pub fn is_unknown_name(&self) -> bool {
        matches!(*self.kind, Kind::UnknownName { .. })
    }

    /// The socket was there and somebody has taken it.
    #[must_use]
    pub fn is_already_taken(&self) -> bool {
        matches!(*self.kind, Kind::Taken { .. })
    }

    /// The socket is of another kind than what was asked for.
    #[must_use]
    pub fn is_wrong_kind(&self) -> bool {
        matches!(*self.kind, Kind::WrongSocket { .. })
    }

    /// An address or a name is malformed.
    #[must_use]
    pub fn is_invalid_address(&self) -> bool {
        matches!(*self.kind, Kind::Address { .. } | Kind::Name { .. })
    }

    /// A bind failed because somebody else has that address.
    #[must_use]
    pub fn is_address_in_use(&self) -> bool {
        matches!(&*self.kind, Kind::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }

    /// A listening socket was passed that no route serves.
    #[must_use]
    pub fn is_unserved(&self) -> bool {
        matches!(*self.kind, Kind::Unserved { .. })
    }

    /// The next process could not be started: there is nothing to execute, or the system refuses.
    #[must_use]
    pub fn is_start_failure(&self) -> bool {
        matches!(*self.kind, Kind::Start { .. } | Kind::SpawnAsInit)
    }

    /// A handoff failed: nothing has changed, and the process that served serves on.
    #[must_use]
    pub fn is_handoff_failure(&self) -> bool {
        matches!(
            *self.kind,
            Kind::Handover { .. }
                | Kind::Predecessor { .. }
                | Kind::Start { .. }
                | Kind::SpawnAsInit
                | Kind::SpawnRefused { .. }
                | Kind::Rendezvous { .. }
                | Kind::Requested { .. }
        )
    }

    fn io_kind(&self) -> io::ErrorKind {
        match &*self.kind {
            Kind::Bind { source, .. }
            | Kind::Socket { source, .. }
            | Kind::Signal { source }
            | Kind::Notify { source, .. }
            | Kind::Start { source, .. }
            | Kind::Rendezvous { source, .. } => source.kind(),
            Kind::Unit { source: Some(source), .. } => source.kind(),
            Kind::UnknownName { .. } => io::ErrorKind::NotFound,
            Kind::Taken { .. } => io::ErrorKind::AddrInUse,
            Kind::NoRuntime { .. } | Kind::ShownOnly { .. } | Kind::SpawnAsInit | Kind::SpawnRefused { .. } => {
                io::ErrorKind::Unsupported
            }
            _ => io::ErrorKind::InvalidInput,
        }
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self { kind: Box::new(kind) }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.io_kind(), error)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.kind {
            Kind::Bind { source, .. }
            | Kind::Socket { source, .. }
            | Kind::Signal { source }
            | Kind::Notify { source, .. }
            | Kind::Start { source, .. }
            | Kind::Rendezvous { source, .. } => Some(source),
            Kind::Unit { source: Some(source), .. } => Some(source),
            _ => None,
        }
    }
}

/// The same text as [`Display`](fmt::Display), because that is what a `main` that returns an error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            Kind::Bind { source, .. }
            | Kind::Socket { source, .. }
            | Kind::Signal { source }
            | Kind::Notify { source, .. }
            | Kind::Start { source, .. }
            | Kind::Rendezvous { source, .. } => write!(f, "{self}: {source}"),
            Kind::Unit { source: Some(source), .. } => write!(f, "{self}: {source}"),
            _ => write!(f, "{self}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { variable, value, problem } => write!(
                f,
                "{variable}={value:?} {problem}; it is set by whoever starts this process (systemd, systemd-socket-activate, \
                 a predecessor), so fix it there or unset it"
            ),
            Self::PidMismatch { variable, value, own } => write!(
                f,
                "{variable}={value} names another process, this one is {own}: a wrapper between the service manager and \
                 this program must exec it (in a shell: `exec program`), or unset LISTEN_FDS; \
                 `ActivatedListeners::builder().ignore_pid()` takes the sockets all the same"
            ),
            Self::ClosedFd { fd, promised } => write!(
                f,
                "LISTEN_FDS={} promises {}, but descriptor {fd} is not open; a wrapper has closed it or the count is wrong",
                promised.len(),
                Descriptors(promised)
            ),
            Self::OwnedFd { fd, promised } => write!(
                f,
                "LISTEN_FDS={} promises {}, but descriptor {fd} is close-on-exec, so it did not come through exec: whoever \
                 started this process left that number closed and it was opened here since, or another library has claimed it; \
                 pass as many as LISTEN_FDS says, and call from_env first thing in main, and only this one",
                promised.len(),
                Descriptors(promised)
            ),
            Self::UnknownName { name, has_predecessor: true, .. } => write!(
                f,
                "no socket named {name:?} came from the process before this one; if that one has taken it with `files`, `udp` or \
                 `unix_datagram`, let it pass it on with `ActivatedListeners::pass_to_successor`, otherwise give the name an address to bind \
                 with `fallback`"
            ),
            Self::UnknownName { name, known, .. } if known.is_empty() => write!(
                f,
                "no socket named {name:?}: this process was passed none; start it with one \
                 (FileDescriptorName={} in its .socket unit), or give the name an address to bind with `fallback`",
                name.escape_debug()
            ),
            Self::UnknownName { name, known, .. } if known.iter().all(String::is_empty) => write!(
                f,
                "no socket named {name:?}, those that were passed have no names; name them with LISTEN_FDNAMES={} \
                 (FileDescriptorName= in a .socket unit, --fdname= of systemd-socket-activate), or give the program one `fallback`, \
                 whose name they get, or take them as \"\"",
                name.escape_debug()
            ),
            Self::UnknownName { name, known, .. } => write!(
                f,
                "no socket named {name:?}, there is {}; name it so with FileDescriptorName={} in its .socket unit, or give \
                 the name an address to bind with `fallback`",
                Names(known),
                name.escape_debug()
            ),
            Self::Taken { name } => {
                write!(f, "the sockets named {name:?} have been taken already; take a name once and share what you get")
            }
            Self::WrongSocket { name, wanted, found, address, remedy } => {
                write!(f, "{name:?} was asked for as {wanted}, but it is {found}")?;
                address.as_ref().map_or(Ok(()), |address| write!(f, " ({address})"))?;
                write!(f, "; {remedy}")
            }
            Self::Address { text, problem } => write!(
                f,
                "{text:?} is no address: {problem}; expected host:port, [v6]:port, :port, unix:/path, /path, @abstract, \
                 vsock:CID:PORT or &name"
            ),
            Self::Name { name, problem } => write!(
                f,
                "{name:?} cannot be the name of a socket: {problem}; names are up to 255 ASCII characters without control \
                 characters and ':' (FileDescriptorName= in systemd.socket(5))"
            ),
            Self::Unit { unit, problem, .. } => write!(f, "{unit}: {problem}"),
            Self::Bind { address, remedy, .. } => write!(f, "cannot listen on {address}: {remedy}"),
            Self::Socket { name, doing, .. } => write!(f, "cannot {doing} the socket named {name:?}"),
            Self::NoRuntime { name } => write!(
                f,
                "the socket named {name:?} was asked for outside a tokio runtime; call it inside #[tokio::main] or Runtime::enter"
            ),
            Self::ShownOnly { name } => write!(
                f,
                "{name:?} cannot be taken by a handler: a request only shows which sockets this process serves; take it in main"
            ),
            Self::Unserved { name, address, routes } if name.is_empty() => write!(
                f,
                "a socket ({address}) was passed without a name and no route serves it, its clients would hang; routes: {}; name \
                 each socket with LISTEN_FDNAMES=NAME:NAME (FileDescriptorName= in a .socket unit, --fdname= of \
                 systemd-socket-activate), or give the server one route only, or allow it with allow_unserved()",
                Names(routes)
            ),
            Self::Unserved { name, address, routes } => write!(
                f,
                "the socket named {name:?} ({address}) was passed but no route serves it, its clients would hang; routes: {}; \
                 add .serve({name:?}, ..), or set FileDescriptorName= in its .socket unit (--fdname= of \
                 systemd-socket-activate) to one of them, or allow it with allow_unserved()",
                Names(routes)
            ),
            Self::NoRoute => f.write_str("the server has no route; add one with .serve(name, router)"),
            Self::NoConnections => f.write_str(
                "max_connections(0) lets nobody in, every client would hang; give it 1 at least, or leave it out for no limit",
            ),
            Self::TwoRoutes { name } => {
                write!(f, "two routes are named {name:?}; merge the routers, or give one socket another name")
            }
            Self::AmbiguousConnection { name, routes } => write!(
                f,
                "one connection was passed (Accept=yes) under the name {name:?}, and none of the routes has it: {}; give the \
                 server one route only, or set FileDescriptorName= (systemd 257 and later pass it on)",
                Names(routes)
            ),
            Self::Signal { .. } => f.write_str("cannot install the signal handlers"),
            Self::Notify { address, doing, .. } => write!(
                f,
                "cannot {doing} the service manager at {address:?}, which NOTIFY_SOCKET names: it must be there and read on, and \
                 NotifyAccess= of the unit must let this process speak"
            ),
            Self::NotReady { reason } => write!(
                f,
                "the service cannot start: {reason}; this comes from the future given to ready_when, or start_timeout is over"
            ),
            Self::Start { program, remedy, .. } => write!(f, "cannot start {}: {remedy}", program.display()),
            Self::Handover { reason } => write!(f, "no handoff: {reason}; this process serves on"),
            Self::Predecessor { reason } => write!(
                f,
                "cannot take over from the process that serves: {reason}; nothing has changed there"
            ),
            Self::Rendezvous { path, problem, .. } => {
                write!(f, "cannot meet the process that serves at {}: {problem}", path.display())
            }
            Self::Requested { path, reason } => write!(f, "no handoff at {}: {reason}", path.display()),
            Self::SpawnAsInit => f.write_str(
                "this process is PID 1, and what it starts ends with it, as a container does; start the next process from \
                 outside, and let both meet at a path (rendezvous)",
            ),
            Self::SpawnRefused { reason } => write!(
                f,
                "no handoff by spawn: {reason}; start the next process from outside and let both meet at a path \
                 (handoff_socket), or allow it with handoff_by_spawn(true)"
            ),
            Self::TwoCoordinators => f.write_str(
                "another server of this process hands over at SIGHUP and SIGUSR2, and one handoff replaces the whole process; \
                 serve all names with one Server (one .serve(name, ..) each), or add without_handoff_signals() to this one \
                 (without_signals() of Handoff::builder), and end it with the other: with_drain(other.drain())",
            ),
        }
    }
}

/// `descriptors 3 to 5`, `descriptor 3`.
struct Descriptors<'a>(&'a Range<RawFd>);

impl fmt::Display for Descriptors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            one if one.len() == 1 => write!(f, "descriptor {}", one.start),
            Range { start, end } => write!(f, "descriptors {start} to {}", end - 1),
        }
    }
}

/// `"http", "admin"`.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name:?}")?;
        }
        Ok(())
    }
}
