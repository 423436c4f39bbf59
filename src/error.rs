//! The one error type of the crate.
//!
//! A message names the socket, the variable or the path it concerns, and what to do about it. It is written for the
//! operator who reads it in the journal, so it uses the words of the unit files. A program that wants to decide asks
//! the predicates of [`Error`].
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use axum_activation::ActivatedListeners;
//!
//! let activated = ActivatedListeners::builder().build().unwrap();
//! let error = activated.one("http").unwrap_err();
//! assert!(error.is_unknown_name());
//! assert!(error.to_string().starts_with("no socket named \"http\": this process was passed none; start it with one"));
//! # }
//! ```

use std::{error::Error as StdError, fmt, io, ops::Range, os::fd::RawFd, path::PathBuf};

use crate::sys::socket::SocketKind;

/// What went wrong, with the socket or the variable it concerns and what to do about it.
///
/// It is opaque, so that messages and causes can grow. Its `is_` methods tell kinds apart. An [`io::Error`] that caused
/// it is its [`source`](StdError::source), and part of what [`Debug`](fmt::Debug) prints: a `main` that returns it
/// shows both.
///
/// It converts into an [`io::Error`], for a `main` that returns [`io::Result`]:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use std::io;
/// use axum_activation::{ActivatedListener, ActivatedListeners};
///
/// fn listener() -> io::Result<ActivatedListener> {
///     Ok(ActivatedListeners::builder().build()?.one("http")?)
/// }
/// assert_eq!(listener().unwrap_err().kind(), io::ErrorKind::NotFound);
/// # Ok(())
/// # }
/// ```
pub struct Error {
    kind: Box<Kind>,
}

/// The crate's result type.
///
/// ```
/// use axum_activation::{ListenAddr, error::Result};
///
/// fn listen() -> Result<ListenAddr> {
///     "127.0.0.1:8080".parse()
/// }
/// assert!(listen().is_ok());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an [`Error`] is. Private, so that a variant may get a field in any release.
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
    /// No socket of that name was passed or bound.
    UnknownName { name: String, known: Vec<String>, has_predecessor: bool },
    /// Every socket of that name has been taken.
    Taken { name: String },
    /// A socket of that name is something else than what was asked for.
    WrongSocket { name: String, wanted: &'static str, found: SocketKind, address: Option<String>, remedy: &'static str },
    /// A call that is about one socket, on a listener over several.
    SeveralSockets { name: String, call: &'static str, addresses: Vec<String> },
    /// Text that is no address.
    Address { text: String, problem: String },
    /// A name that the activation protocol cannot carry.
    Name { name: String, problem: &'static str },
    /// A unit that cannot be checked.
    #[cfg_attr(not(feature = "unit-check"), allow(dead_code, reason = "`unit_check` alone reads units"))]
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
    /// A certificate, a key or another file of TLS cannot be used, or there is no provider of cryptography.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "`tls` alone reads certificates"))]
    Tls { what: String, problem: String, source: Option<io::Error> },
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
    Handoff { reason: String },
    /// The predecessor did not let this process take over, or could not be understood.
    Predecessor { reason: String },
    /// The process that serves cannot be met at a path.
    Rendezvous { path: PathBuf, problem: String, source: io::Error },
    /// A process that was asked to hand over did not.
    Requested { path: PathBuf, reason: String },
}

impl Error {
    /// Whether the sockets in the environment are meant for another process (`LISTEN_PID` or `LISTEN_PIDFDID` is not
    /// this process).
    ///
    /// It is Go's `systemd.ErrPIDMismatch`. Most often a wrapper between systemd and the program does not `exec` it. A
    /// program that may be a child of a socket-activated service chooses [`ForeignPid`](crate::ForeignPid).
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// match ActivatedListeners::from_env() {
    ///     Ok(activated) => println!("{} sockets", activated.names().len()),
    ///     Err(error) if error.is_pid_mismatch() => eprintln!("the wrapper must exec this program: {error}"),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// ```
    #[must_use]
    #[doc(alias = "ErrPIDMismatch")]
    pub fn is_pid_mismatch(&self) -> bool {
        matches!(*self.kind, Kind::PidMismatch { .. })
    }

    /// Whether a `LISTEN_*` variable cannot be understood, or does not fit the descriptors that are there.
    ///
    /// The launcher is wrong then. No descriptor has been touched.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let wrong = ActivatedListeners::from_env().is_err_and(|error| error.is_invalid_environment());
    /// assert!(!wrong);
    /// ```
    #[must_use]
    pub fn is_invalid_environment(&self) -> bool {
        matches!(*self.kind, Kind::Environment { .. } | Kind::ClosedFd { .. } | Kind::OwnedFd { .. })
    }

    /// Whether no socket of that name was passed, and no fallback was given for it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let error = activated.one("https").unwrap_err();
    /// assert!(error.is_unknown_name());
    /// assert!(error.to_string().contains("there is \"http\""));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_unknown_name(&self) -> bool {
        matches!(*self.kind, Kind::UnknownName { .. })
    }

    /// Whether the socket was there and is taken already. A name is taken once; share what you get.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let _listener = activated.one("http")?;
    /// assert!(activated.one("http").unwrap_err().is_already_taken());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_already_taken(&self) -> bool {
        matches!(*self.kind, Kind::Taken { .. })
    }

    /// Whether the socket is of another kind than what was asked for.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::net::UdpSocket;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().socket("dns", UdpSocket::bind("127.0.0.1:0")?).build()?;
    /// assert!(activated.one("dns").unwrap_err().is_wrong_kind());
    /// assert_eq!(activated.udp("dns")?.len(), 1, "nothing was taken");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_wrong_kind(&self) -> bool {
        matches!(*self.kind, Kind::WrongSocket { .. })
    }

    /// Whether an address or a name is malformed.
    ///
    /// ```
    /// use axum_activation::ListenAddr;
    ///
    /// assert!("localhost".parse::<ListenAddr>().unwrap_err().is_invalid_address());
    /// ```
    #[must_use]
    pub fn is_invalid_address(&self) -> bool {
        matches!(*self.kind, Kind::Address { .. } | Kind::Name { .. })
    }

    /// Whether a bind failed because another socket has that address.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let other = TcpListener::bind("127.0.0.1:0")?;
    /// let error = ActivatedListeners::builder().fallback("http", other.local_addr()?).build().unwrap_err();
    /// assert!(error.is_address_in_use());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn is_address_in_use(&self) -> bool {
        matches!(&*self.kind, Kind::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }

    /// Whether a listening socket was passed that no route serves: its clients would connect and hang.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::net::TcpListener;
    /// use axum::Router;
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// let activated = ActivatedListeners::builder()
    ///     .socket("http", TcpListener::bind("127.0.0.1:0")?)
    ///     .socket("admin", TcpListener::bind("127.0.0.1:0")?)
    ///     .build()?;
    /// let error = Server::new(activated).serve("http", Router::new()).run().await.unwrap_err();
    /// assert!(error.is_unserved());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_unserved(&self) -> bool {
        matches!(*self.kind, Kind::Unserved { .. })
    }

    /// Whether the next process could not be started: there is no program at the path, or the system refuses.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::handoff::start_process;
    ///
    /// let name = "no:colon".to_owned();
    /// let error = start_process([(name, std::fs::File::open("/dev/null").unwrap().into())]).await.unwrap_err();
    /// assert!(!error.is_start_failure(), "the name was refused before a start was tried");
    /// assert!(error.is_invalid_address());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_start_failure(&self) -> bool {
        matches!(*self.kind, Kind::Start { .. } | Kind::SpawnAsInit)
    }

    /// Whether TLS cannot be spoken: a certificate or a key cannot be used, or no provider of cryptography is chosen.
    ///
    /// ```
    /// # #[cfg(feature = "tls")] {
    /// use axum_activation::tls::Tls;
    ///
    /// let error = Tls::pem_files("/no/such/chain.pem", "/no/such/key.pem").unwrap_err();
    /// assert!(error.is_tls());
    /// # }
    /// ```
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(*self.kind, Kind::Tls { .. })
    }

    /// Whether a handoff failed. Nothing has changed then: the process that served serves on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use axum_activation::handoff::request_handoff;
    ///
    /// let error = request_handoff("/run/no-such-service/handoff.sock").await.unwrap_err();
    /// assert!(error.is_handoff_failure());
    /// # }
    /// ```
    #[must_use]
    pub fn is_handoff_failure(&self) -> bool {
        matches!(
            *self.kind,
            Kind::Handoff { .. }
                | Kind::Predecessor { .. }
                | Kind::Start { .. }
                | Kind::SpawnAsInit
                | Kind::SpawnRefused { .. }
                | Kind::Rendezvous { .. }
                | Kind::Requested { .. }
        )
    }

    /// The kind of an [`io::Error`] that is made of it. That of the cause, where there is one.
    fn io_kind(&self) -> io::ErrorKind {
        match &*self.kind {
            Kind::Bind { source, .. }
            | Kind::Socket { source, .. }
            | Kind::Signal { source }
            | Kind::Notify { source, .. }
            | Kind::Start { source, .. }
            | Kind::Rendezvous { source, .. } => source.kind(),
            Kind::Unit { source: Some(source), .. } | Kind::Tls { source: Some(source), .. } => source.kind(),
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
            Kind::Unit { source: Some(source), .. } | Kind::Tls { source: Some(source), .. } => Some(source),
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
            Kind::Unit { source: Some(source), .. } | Kind::Tls { source: Some(source), .. } => {
                write!(f, "{self}: {source}")
            }
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
                "{variable}={value:?} {problem}; it is set by the launcher of this process (systemd, systemd-socket-activate, \
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
                "LISTEN_FDS={} promises {}, but descriptor {fd} is close-on-exec, so it did not come through exec: the \
                 launcher of this process left that number closed and it was opened here since, or another library has claimed it; \
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
            Self::SeveralSockets { name, call, addresses } => write!(
                f,
                "{name:?} is {} sockets ({}), and {call} is about one; take a listener for each with \
                 `ActivatedListeners::all`, or ask all of them with `local_addrs`",
                addresses.len(),
                addresses.join(", ")
            ),
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
                "max_connections(0) lets no client in, every client would hang; give it 1 at least, or leave it out for no limit",
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
            Self::Tls { what, problem, .. } => write!(f, "{what}: {problem}"),
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
            Self::Handoff { reason } => write!(f, "no handoff: {reason}"),
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
