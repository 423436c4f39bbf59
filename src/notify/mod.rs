//! What a service tells its manager: `sd_notify(3)` for systemd and whoever else speaks it.
//!
//! [`Server`](crate::Server) says all of it by itself. A program that serves otherwise says it with a [`Notifier`]:
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
//! Without `NOTIFY_SOCKET` all of it does nothing.

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

/// Speaks to the service manager. Clones speak through one socket, in order.
///
/// Nothing here blocks: where the queue of the manager is full (`net.unix.max_dgram_qlen`), messages wait here and a task of
/// their own sends them. Order is kept and nothing is lost, except that of several waiting messages which only repeat
/// themselves ([`Status`](State::Status), [`ExtendTimeout`](State::ExtendTimeout), [`Watchdog`](State::Watchdog)) the last is
/// sent. Nor does anything fail: a manager that is gone is traced.
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
    /// Speaks to whoever started this process, as `NOTIFY_SOCKET` names it: a path, or an abstract name after an `@`.
    ///
    /// The environment is read once a process, and left as it is. A vsock address is traced, and nothing is said.
    #[doc(alias = "sd_notify")]
    #[must_use]
    pub fn from_env() -> Self {
        static NOTIFIER: OnceLock<Notifier> = OnceLock::new();
        NOTIFIER.get_or_init(|| Self::from(&Environment::read())).clone()
    }

    /// Speaks to nobody.
    #[must_use]
    pub fn none() -> Self {
        Self { shared: Arc::default() }
    }

    /// Speaks to the socket at `address`, as `NOTIFY_SOCKET` would name it, whether or not somebody is there yet.
    ///
    /// # Errors
    ///
    /// The address is neither an absolute path nor an abstract name, or is too long.
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

    /// Says that the manager wants to hear [`Watchdog`](State::Watchdog) within each `interval`, as `WATCHDOG_USEC` would.
    #[must_use]
    pub fn with_watchdog(self, interval: impl Into<Option<Duration>>) -> Self {
        self.with(|shared| shared.watchdog = interval.into())
    }

    /// Says that the manager keeps up to `max` descriptors, as `FDSTORE` would (which systemd sets from 254 on).
    #[must_use]
    pub fn with_fd_store_max(self, max: impl Into<Option<usize>>) -> Self {
        self.with(|shared| shared.fd_store_max = max.into())
    }

    /// Whether there is a manager to speak to.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.shared.outbox.is_some()
    }

    /// Within which time the manager wants to hear [`Watchdog`](State::Watchdog) again and again; `None` if it does not.
    ///
    /// `WATCHDOG_USEC`, unless `WATCHDOG_PID` is another process.
    #[doc(alias = "sd_watchdog_enabled")]
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.shared.watchdog
    }

    /// How many descriptors the manager keeps for the service over a restart (`FileDescriptorStoreMax=`); `None` if unknown.
    #[must_use]
    pub fn fd_store_max(&self) -> Option<usize> {
        self.shared.fd_store_max
    }

    /// Says `states`, in one message.
    pub fn notify(&self, states: impl IntoIterator<Item = State>) {
        self.push(|| Message::of(states));
    }

    /// Has the manager keep `fd` over a restart, under `name` (`FDSTORE=1`); it is closed here when the manager has its own.
    ///
    /// The manager drops it by itself when its peer is gone for good (a reset, a closed pipe). Over
    /// [`fd_store_max`](Self::fd_store_max) it is closed without a word. In a name, what is not ASCII, and colons, become `_`.
    #[doc(alias = "sd_pid_notify_with_fds")]
    pub fn fd_store(&self, name: &str, fd: OwnedFd) {
        self.push(|| Message::store(name, fd, true));
    }

    /// As [`fd_store`](Self::fd_store), and the manager keeps it whatever becomes of its peer (`FDPOLL=0`).
    pub fn fd_store_unpolled(&self, name: &str, fd: OwnedFd) {
        self.push(|| Message::store(name, fd, false));
    }

    /// Has the manager close all that it keeps under `name` (`FDSTOREREMOVE=1`).
    pub fn fd_store_remove(&self, name: &str) {
        self.push(|| Message::remove(name));
    }

    /// Resolves when the manager has done all that it was told before (`BARRIER=1`); at once where there is none.
    ///
    /// # Errors
    ///
    /// The manager is gone, or has not answered within `limit`.
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

    /// Resolves when all that was said is sent. Messages are sent at once as a rule; this is for the end of a program.
    ///
    /// # Errors
    ///
    /// The manager has not had room for them within `limit`.
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
                log::warn!(?error, "NOTIFY_SOCKET cannot be used, the service manager is told nothing");
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

/// Resolves when `message` is sent, which is not before all that was said earlier.
async fn send(outbox: &Arc<Outbox>, mut message: Message) -> io::Result<()> {
    let (sent, sending) = oneshot::channel();
    message.sent = Some(sent);
    outbox.push(message);
    sending.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
}
