//! Messages to the service manager: `sd_notify(3)`, for systemd and every launcher that speaks it.
//!
//! [`Server`](crate::Server) sends all of them by itself. A program that serves otherwise sends them with a
//! [`Notifier`]:
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use axum_activation::{ActivatedListeners, notify::{Notifier, State}};
//!
//! let notifier = Notifier::from_env();
//! let listener = ActivatedListeners::from_env()?.one("http")?;
//! notifier.notify([State::Ready, State::Status("serving".into())]);
//! axum::serve(listener, axum::Router::new()).await
//! # }
//! ```
//!
//! Without `NOTIFY_SOCKET` all of it does nothing, so a program need not know whether systemd has started it.
//!
//! A test plays the manager with a datagram socket:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::os::unix::net::UnixDatagram;
//! use axum_activation::notify::{Notifier, State};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("notify");
//! let manager = UnixDatagram::bind(&path)?;
//!
//! Notifier::to(&path)?.notify([State::Ready, State::MainPid(7)]);
//!
//! let mut message = [0; 100];
//! let length = manager.recv(&mut message)?;
//! assert_eq!(&message[..length], b"READY=1\nMAINPID=7\n");
//! # Ok(())
//! # }
//! ```

use std::{
    ffi::OsStr,
    fmt, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{net::unix::pipe, sync::oneshot, time::timeout};

mod environment;
mod outbox;
mod state;

pub use self::state::State;
use self::{environment::Environment, outbox::Outbox, state::Message};
use crate::{
    error::{Error, Kind},
    log,
};

/// Sends messages to the service manager. Clones send through one socket, in order.
///
/// - Nothing here blocks. Where the queue of the manager is full (`net.unix.max_dgram_qlen`), messages wait in this
///   process, and a task sends them as soon as there is room.
/// - Order is kept, and no message is lost. Of several waiting messages that only repeat themselves
///   ([`Status`](State::Status), [`ExtendTimeout`](State::ExtendTimeout), [`Watchdog`](State::Watchdog)) the last one
///   is sent.
/// - Nothing here fails, but for [`to`](Self::to), [`barrier`](Self::barrier) and [`flush`](Self::flush). A manager
///   that is gone is logged at WARN.
///
/// `NotifyAccess=` of the unit decides which processes systemd listens to. The default for `Type=notify` is the main
/// process alone.
///
/// ```
/// use axum_activation::notify::{Notifier, State};
///
/// let notifier = Notifier::from_env();
/// notifier.notify([State::Status("filling the cache".into())]);
/// let from_another_task = notifier.clone();
/// from_another_task.notify([State::Ready]);
/// ```
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    address: String,
    outbox: Option<Arc<Outbox>>,
    watchdog: Option<Duration>,
    fd_store_max: Option<usize>,
}

impl Notifier {
    /// A notifier for the manager that has started this process: the one that `NOTIFY_SOCKET` names, by a path, or by
    /// an abstract name after an `@`.
    ///
    /// The environment is read once a process, and left as it is: a child inherits it. A vsock address cannot be sent
    /// to. It is logged at WARN, and the notifier does nothing.
    ///
    /// ```
    /// use axum_activation::Notifier;
    ///
    /// let notifier = Notifier::from_env();
    /// if notifier.is_active() {
    ///     println!("a service manager listens");
    /// }
    /// ```
    #[doc(alias = "sd_notify")]
    #[must_use]
    pub fn from_env() -> Self {
        static NOTIFIER: OnceLock<Notifier> = OnceLock::new();
        NOTIFIER.get_or_init(|| Self::from(&Environment::read())).clone()
    }

    /// A notifier that does nothing.
    ///
    /// ```
    /// use axum_activation::Notifier;
    ///
    /// assert!(!Notifier::none().is_active());
    /// ```
    #[must_use]
    pub fn none() -> Self {
        Self { shared: Arc::default() }
    }

    /// A notifier for the socket at `address`, written as in `NOTIFY_SOCKET`. The socket need not be there yet.
    ///
    /// ```
    /// use axum_activation::Notifier;
    ///
    /// assert!(Notifier::to("@my-manager")?.is_active());
    /// assert!(Notifier::to("relative/path").is_err());
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The address is neither an absolute path nor an abstract name, or is too long (`unix(7)`: 107 bytes).
    pub fn to(address: impl AsRef<OsStr>) -> Result<Self, Error> {
        let (address, shown) = (address.as_ref().as_bytes(), address.as_ref().to_string_lossy().into_owned());
        match Outbox::open(address) {
            Ok(outbox) => {
                let shared = Shared { address: shown, outbox: Some(outbox), ..Shared::default() };
                Ok(Self { shared: Arc::new(shared) })
            }
            Err(source) => Err(Kind::Notify { address: shown, doing: "speak to", source }.into()),
        }
    }

    /// Sets the interval within which the manager expects [`Watchdog`](State::Watchdog), as `WATCHDOG_USEC` would.
    /// `None` turns it off.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::Notifier;
    ///
    /// let notifier = Notifier::none().with_watchdog(Duration::from_secs(10));
    /// assert_eq!(notifier.watchdog(), Some(Duration::from_secs(10)));
    /// assert_eq!(notifier.with_watchdog(None).watchdog(), None);
    /// ```
    #[must_use]
    pub fn with_watchdog(self, interval: impl Into<Option<Duration>>) -> Self {
        self.with(|shared| shared.watchdog = interval.into())
    }

    /// Sets how many descriptors the manager keeps, as `FDSTORE` would (which systemd sets from 254 on). For an older
    /// systemd, set it to the `FileDescriptorStoreMax=` of the unit.
    ///
    /// ```
    /// use axum_activation::Notifier;
    ///
    /// let notifier = Notifier::from_env().with_fd_store_max(512);
    /// assert_eq!(notifier.fd_store_max(), Some(512));
    /// ```
    #[must_use]
    pub fn with_fd_store_max(self, max: impl Into<Option<usize>>) -> Self {
        self.with(|shared| shared.fd_store_max = max.into())
    }

    /// Whether there is a manager to send to.
    ///
    /// ```
    /// use axum_activation::Notifier;
    ///
    /// assert!(!Notifier::none().is_active());
    /// ```
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.shared.outbox.is_some()
    }

    /// The interval within which the manager expects [`Watchdog`](State::Watchdog); `None` if it expects none.
    ///
    /// It comes from `WATCHDOG_USEC`, unless `WATCHDOG_PID` names another process (`sd_watchdog_enabled(3)`). Send it
    /// at half of that.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use axum_activation::notify::{Notifier, State};
    ///
    /// let notifier = Notifier::from_env();
    /// if let Some(interval) = notifier.watchdog() {
    ///     tokio::spawn(async move {
    ///         let mut ticks = tokio::time::interval(interval / 2);
    ///         loop {
    ///             ticks.tick().await;
    ///             notifier.notify([State::Watchdog]);
    ///         }
    ///     });
    /// }
    /// # }
    /// ```
    #[doc(alias = "sd_watchdog_enabled")]
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.shared.watchdog
    }

    /// How many descriptors the manager keeps for the service over a restart (`FileDescriptorStoreMax=` of
    /// `systemd.service(5)`); `None` if it is not known.
    ///
    /// ```
    /// use axum_activation::Notifier;
    ///
    /// let has_store = Notifier::from_env().fd_store_max().is_some_and(|max| max > 0);
    /// # let _ = has_store;
    /// ```
    #[must_use]
    pub fn fd_store_max(&self) -> Option<usize> {
        self.shared.fd_store_max
    }

    /// Sends `states` in one message.
    ///
    /// It returns at once. Outside a tokio runtime, a message that has to wait is sent with the next one.
    ///
    /// ```
    /// use axum_activation::notify::{Notifier, State};
    ///
    /// Notifier::from_env().notify([State::Stopping, State::Status("draining".into())]);
    /// ```
    pub fn notify(&self, states: impl IntoIterator<Item = State>) {
        self.push(|| Message::of(states));
    }

    /// Has the manager keep `fd` over a restart, under `name` (`FDSTORE=1`). It is closed here when the manager has its
    /// own.
    ///
    /// The next process of the service gets it as a socket of that name, see
    /// [`files`](crate::ActivatedListeners::files).
    ///
    /// - The manager drops it by itself when its peer is gone for good (a reset, a closed pipe).
    /// - When the store has [`fd_store_max`](Self::fd_store_max) descriptors, the manager closes it without an answer.
    /// - In a name, colons and what is not ASCII become `_`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::fs::File;
    /// use axum_activation::Notifier;
    ///
    /// let notifier = Notifier::from_env();
    /// let state = File::open("/dev/null")?; // a memfd with the state of the service, for example
    /// notifier.fd_store("state", state.into());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "sd_pid_notify_with_fds")]
    pub fn fd_store(&self, name: &str, fd: OwnedFd) {
        self.push(|| Message::store(name, fd, true));
    }

    /// As [`fd_store`](Self::fd_store). The manager keeps it whatever becomes of its peer (`FDPOLL=0`).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use axum_activation::Notifier;
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// Notifier::from_env().fd_store_unpolled("http", listener.try_clone()?.into());
    /// # Ok(())
    /// # }
    /// ```
    pub fn fd_store_unpolled(&self, name: &str, fd: OwnedFd) {
        self.push(|| Message::store(name, fd, false));
    }

    /// Has the manager close all that it keeps under `name` (`FDSTOREREMOVE=1`).
    ///
    /// ```
    /// use axum_activation::Notifier;
    ///
    /// Notifier::from_env().fd_store_remove("state");
    /// ```
    pub fn fd_store_remove(&self, name: &str) {
        self.push(|| Message::remove(name));
    }

    /// Resolves when the manager has handled all messages that were sent before (`BARRIER=1`); at once where there is
    /// no manager.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use std::time::Duration;
    /// use axum_activation::notify::{Notifier, State};
    ///
    /// let notifier = Notifier::from_env();
    /// notifier.notify([State::MainPid(std::process::id())]);
    /// notifier.barrier(Duration::from_secs(5)).await?; // systemd knows its main process from here on
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The manager is gone, or has not answered within `limit`. systemd knows `BARRIER=1` since version 246.
    ///
    /// # Cancel safety
    ///
    /// Dropping it only stops waiting.
    #[doc(alias = "sd_notify_barrier")]
    pub async fn barrier(&self, limit: Duration) -> Result<(), Error> {
        match &self.shared.outbox {
            Some(outbox) => self.await_answer("wait for", limit, pass_barrier(outbox)).await,
            None => Ok(()),
        }
    }

    /// Resolves when all messages are sent. Messages are sent at once as a rule; this is for the end of a program.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use std::time::Duration;
    /// use axum_activation::notify::{Notifier, State};
    ///
    /// let notifier = Notifier::from_env();
    /// notifier.notify([State::Status("the database is gone".into()), State::Errno(111)]);
    /// notifier.flush(Duration::from_secs(1)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The manager has not had room for them within `limit`, or is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping it only stops waiting.
    pub async fn flush(&self, limit: Duration) -> Result<(), Error> {
        match &self.shared.outbox {
            Some(outbox) => self.await_answer("speak to", limit, send(outbox, Message::mark())).await,
            None => Ok(()),
        }
    }

    /// Waits for `answer`, at most for `limit`.
    async fn await_answer(
        &self,
        doing: &'static str,
        limit: Duration,
        answer: impl Future<Output = io::Result<()>>,
    ) -> Result<(), Error> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
        let answered = timeout(limit, answer).await.unwrap_or_else(|_| Err(late()));
        answered.map_err(|source| Kind::Notify { address: self.shared.address.clone(), doing, source }.into())
    }

    /// Makes a message only where there is a manager.
    fn push(&self, message: impl FnOnce() -> Message) {
        if let Some(outbox) = &self.shared.outbox {
            outbox.push(message());
        }
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let Shared { address, outbox, watchdog, fd_store_max } = &*self.shared;
        let (address, outbox) = (address.clone(), outbox.clone());
        let mut shared = Shared { address, outbox, watchdog: *watchdog, fd_store_max: *fd_store_max };
        change(&mut shared);
        Self { shared: Arc::new(shared) }
    }
}

impl From<&Environment> for Notifier {
    fn from(environment: &Environment) -> Self {
        let Some(address) = &environment.socket else { return Self::none() };
        match Self::to(address) {
            Ok(notifier) => notifier
                .with_watchdog(environment.watchdog(std::process::id()))
                .with_fd_store_max(environment.fd_store_max()),
            Err(error) => {
                log::warn!(?error, "NOTIFY_SOCKET cannot be used, the service manager gets no messages");
                Self::none()
            }
        }
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("address", &self.shared.address)
            .field("watchdog", &self.shared.watchdog)
            .field("fd_store_max", &self.shared.fd_store_max)
            .finish_non_exhaustive()
    }
}

/// Sends the write end of a pipe, and waits until the manager has closed it.
///
/// systemd closes the descriptors of a message when it has handled it, and handles messages in order.
async fn pass_barrier(outbox: &Arc<Outbox>) -> io::Result<()> {
    let (writer, reader) = pipe::pipe()?;
    send(outbox, Message::barrier(writer.into_blocking_fd()?)).await?;
    loop {
        reader.readable().await?;
        match reader.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map(drop),
        }
    }
}

/// Resolves when `message` is sent, which is not before all messages that were sent earlier.
async fn send(outbox: &Arc<Outbox>, mut message: Message) -> io::Result<()> {
    let (sent, sending) = oneshot::channel();
    message.sent = Some(sent);
    outbox.push(message);
    sending.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
}
