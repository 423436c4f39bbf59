//! Where the sockets of a set come from: the environment, sockets of the program itself, fallbacks, an old process at a
//! path.
//!
//! The order is: claim, ask the old process, add the program's own sockets, bind what is missing. Whatever fails, the
//! set is as it was before: what was bound is closed again, and what was passed stays claimed for the next call.
//!
//! Three locks, always taken in this order: `takeover` while another process is asked, `completion` while sockets are
//! added, `slots` while one is looked at. A host name is looked up under none of them.

use std::{convert::Infallible, error::Error as _, fmt, io, os::fd::OwnedFd};

use super::{
    claim::{ForeignPid, claim_once},
    names::valid_name,
    set::ActivatedListeners,
    slot::Slot,
};
use crate::{
    addr::{AskedAddr, ListenAddr},
    error::{Error, Kind},
    listener::ListenOptions,
    log,
    notify::{Notifier, State},
    sys::inherit,
};

/// Says where the sockets of [`ActivatedListeners`] come from.
///
/// ```
/// use axum_activation::{ActivatedListeners, ListenOptions};
///
/// let activated = ActivatedListeners::builder()
///     .fallback("http", "127.0.0.1:0")
///     .fallback("http", "@axum-activation-doc") // both answer to "http"
///     .from_env()?;
/// assert_eq!(activated.names(), ["http"]);
/// # Ok::<(), axum_activation::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct ActivatedListenersBuilder {
    fallbacks: Vec<Fallback>,
    sockets: Vec<(String, OwnedFd)>,
    foreign_pid: ForeignPid,
    takeover: Option<Takeover>,
    peers: Vec<u32>,
}

/// Adds what a predecessor has that is found at some path.
type TakeOver = Box<dyn FnOnce(&ActivatedListeners) -> Result<(), Error> + Send>;

struct Takeover(TakeOver);

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Takeover")
    }
}

#[derive(Debug)]
struct Fallback<A = ListenAddr> {
    name: String,
    addr: Result<A, Error>,
    options: ListenOptions,
}

impl Fallback {
    /// Looks its host name up where more of the fallback than its name has to be known: where something was kept, or it is to be bound.
    fn look_up(self, set: &ActivatedListeners, more: &[Slot]) -> Fallback<AskedAddr> {
        let is_given = is_one_connection(set, more) || more.iter().any(|slot| slot.info.name() == self.name);
        let is_needed = set.has_restored() || !is_given && !set.names().contains(&self.name);
        let look_up = if is_needed { AskedAddr::look_up } else { AskedAddr::unasked };
        Fallback { name: self.name, addr: self.addr.map(look_up), options: self.options }
    }
}

impl ActivatedListeners {
    /// The sockets that were passed to this process; the same set at every call.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::from_env()?;
    /// println!("passed: {:?}", activated.names());
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ActivatedListenersBuilder::from_env`].
    #[doc(alias = "sd_listen_fds")]
    pub fn from_env() -> Result<Self, Error> {
        Self::builder().from_env()
    }

    /// A builder, to add fallbacks, and to choose what to do when the sockets are meant for another process.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// assert!(activated.names().contains(&"http".to_owned()));
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn builder() -> ActivatedListenersBuilder {
        ActivatedListenersBuilder::default()
    }
}

impl ActivatedListenersBuilder {
    /// Binds `addr` if no socket was passed under `name`, so that the program runs without a launcher that passes
    /// sockets.
    ///
    /// `addr` is text as [`ListenAddr`] reads it, or a [`ListenAddr`], a [`SocketAddr`](std::net::SocketAddr) or a
    /// path. Several under one name are all bound. In an `Accept=yes` instance, which has its one connection, none is.
    ///
    /// ```
    /// use std::{net::SocketAddr, path::Path};
    /// use axum_activation::ActivatedListeners;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("admin.sock");
    /// let activated = ActivatedListeners::builder()
    ///     .fallback("http", "localhost:0")
    ///     .fallback("grpc", SocketAddr::from(([127, 0, 0, 1], 0)))
    ///     .fallback("admin", path.as_path())
    ///     .build()?;
    /// assert_eq!(activated.names(), ["http", "grpc", "admin"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fallback<A>(self, name: impl Into<String>, addr: A) -> Self
    where
        A: TryInto<ListenAddr>,
        A::Error: Into<Error>,
    {
        self.fallback_with(name, addr, ListenOptions::new())
    }

    /// As [`fallback`](Self::fallback), with a backlog, or a mode and an owner of a Unix socket.
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, ListenOptions};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("app.sock");
    /// let activated = ActivatedListeners::builder()
    ///     .fallback_with("http", path.as_path(), ListenOptions::new().unix_mode(0o600))
    ///     .build()?;
    /// # drop(activated);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fallback_with<A>(mut self, name: impl Into<String>, addr: A, options: ListenOptions) -> Self
    where
        A: TryInto<ListenAddr>,
        A::Error: Into<Error>,
    {
        let addr = addr.try_into().map_err(Into::into);
        self.fallbacks.push(Fallback { name: name.into(), addr, options });
        self
    }

    /// Adds a socket that the program has from elsewhere, as if it had been passed under `name`.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().socket("http", TcpListener::bind("127.0.0.1:0")?).build()?;
    /// assert!(activated.iter().all(|socket| socket.is_passed()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn socket(mut self, name: impl Into<String>, fd: impl Into<OwnedFd>) -> Self {
        self.sockets.push((name.into(), fd.into()));
        self
    }

    /// What to do with sockets that are meant for another process; [`ForeignPid::Refuse`] without it.
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, ForeignPid};
    ///
    /// // A command line tool that a socket-activated service may run: the sockets are not for it.
    /// let activated = ActivatedListeners::builder().on_foreign_pid(ForeignPid::Ignore).from_env()?;
    /// # drop(activated);
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn on_foreign_pid(mut self, choice: ForeignPid) -> Self {
        self.foreign_pid = choice;
        self
    }

    /// Takes the sockets whichever process they are addressed to: [`ForeignPid::Accept`].
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().ignore_pid().from_env()?;
    /// # drop(activated);
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn ignore_pid(self) -> Self {
        self.on_foreign_pid(ForeignPid::Accept)
    }

    /// The sockets that were passed to this process, and the fallbacks for names that were not.
    ///
    /// They are claimed once a process. Call it first thing in `main`, before anything else opens files. Later calls
    /// answer with the same set, to which their fallbacks are added where a name is still missing.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let again = ActivatedListeners::from_env()?;
    /// assert_eq!(again.names(), activated.names());
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - A `LISTEN_*` variable says something impossible ([`is_invalid_environment`](Error::is_invalid_environment)) or
    ///   names another process ([`is_pid_mismatch`](Error::is_pid_mismatch)). No descriptor has been touched.
    /// - A fallback's address is malformed or cannot be bound. None is bound then, and what was passed stays claimed
    ///   for the next call.
    /// - The process at [`handoff_socket`](Self::handoff_socket) does not let this one take over.
    ///
    /// The error is sent to the service manager as `STATUS=` (`sd_notify(3)`), so that `systemctl status` shows it.
    pub fn from_env(self) -> Result<ActivatedListeners, Error> {
        #[cfg(feature = "handoff")]
        super::start_context::StartContext::of_this_process();
        let set = self.claimed();
        if let Err(error) = &set {
            tell_manager(error);
        }
        set
    }

    fn claimed(self) -> Result<ActivatedListeners, Error> {
        let set = claim_once(self.foreign_pid)?;
        self.complete(set)
    }

    /// The given sockets and fallbacks alone: the environment is not looked at. Each call makes a set of its own, which
    /// is of use in tests.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// assert_eq!(activated.names(), ["http"]);
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A fallback's address is malformed or cannot be bound.
    pub fn build(self) -> Result<ActivatedListeners, Error> {
        self.complete(ActivatedListeners::new(Vec::new()))
    }

    /// Runs `take_over` on the set, before the fallbacks.
    pub(crate) fn takeover(
        mut self,
        take_over: impl FnOnce(&ActivatedListeners) -> Result<(), Error> + Send + 'static,
    ) -> Self {
        self.takeover = Some(Takeover(Box::new(take_over)));
        self
    }

    /// Users of other processes of this service.
    pub(crate) fn peers(mut self, users: impl IntoIterator<Item = u32>) -> Self {
        self.peers.extend(users);
        self
    }

    /// Adds what the set lacks, all of it or nothing. Only binding is done by one caller at a time: to meet another process and to look
    /// up a name may take long, and others do not wait for it.
    fn complete(self, set: ActivatedListeners) -> Result<ActivatedListeners, Error> {
        #[cfg(feature = "handoff")]
        set.add_handoff_peers(&self.peers);
        if let Some(Takeover(take_over)) = self.takeover {
            take_over(&set)?;
        }
        let mut more = Vec::new();
        for (name, fd) in self.sockets {
            valid_name(&name)?;
            let _ = inherit::set_nonblocking(&fd);
            more.push(Slot::passed(&name, fd));
        }
        let names: Vec<_> = self.fallbacks.iter().map(|fallback| fallback.name.clone()).collect();
        if let Some(name) = names.first().filter(|first| names.iter().all(|name| name == *first)) {
            valid_name(name)?;
            set.name_unnamed(name);
        }
        let fallbacks: Vec<_> = self.fallbacks.into_iter().map(|fallback| fallback.look_up(&set, &more)).collect();
        let alone = set.lock_completion();
        let passed = names_passed(&set);
        settle_restored(&set, &fallbacks);
        for fallback in fallbacks {
            valid_name(&fallback.name)?;
            let addr = fallback.addr?;
            let given = |slot: &Slot| slot.info.is_passed() && slot.info.name() == fallback.name;
            if set.provides(&fallback.name, &addr) || more.iter().any(given) || is_one_connection(&set, &more) {
                continue;
            }
            let bound = set.bind_in_place(&addr, &fallback.options, |name| names.iter().any(|known| known == name));
            let bound = bound.map_err(|error| {
                set.explain_replaced(explain(error, &fallback.name, &addr, &set, &more), &fallback.name, &addr)
            })?;
            more.push(Slot::bound(&fallback.name, bound));
            note_fallback(&fallback.name, addr.addr(), &passed);
        }
        set.lock().extend(more);
        drop(alone);
        Ok(set)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// No server speaks yet, and most programs end now.
fn tell_manager(error: &Error) {
    let errno = error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    let status = State::Status(format!("failed: {error:?}"));
    Notifier::from_env().notify([status].into_iter().chain(errno.map(State::Errno)));
}

/// Names what was kept as the fallbacks now do, and closes what an earlier process bound under the name of one whose address has
/// changed meanwhile.
fn settle_restored(set: &ActivatedListeners, fallbacks: &[Fallback<AskedAddr>]) {
    let valid = fallbacks.iter().filter_map(|fallback| Some((fallback.name.as_str(), fallback.addr.as_ref().ok()?)));
    set.rename_restored(&valid.collect::<Vec<_>>());
    for fallback in fallbacks {
        let namesakes = fallbacks.iter().filter(|other| other.name == fallback.name);
        if let Ok(addrs) = namesakes.map(|other| other.addr.as_ref()).collect::<Result<Vec<_>, _>>() {
            set.close_relocated(&fallback.name, &addrs);
            set.close_replaced(&fallback.name, &addrs);
        }
    }
}

/// The names under which others passed something; what was kept is this service's own.
fn names_passed(set: &ActivatedListeners) -> Vec<String> {
    let is_passed = |name: &String| set.iter().any(|socket| socket.is_passed() && socket.name() == name);
    set.names().into_iter().filter(is_passed).collect()
}

fn is_one_connection(set: &ActivatedListeners, more: &[Slot]) -> bool {
    set.one_connection().is_some() || matches!(more, [slot] if slot.is_connection())
}

/// What to do in a successor whose address is in use.
const NOT_SHARED: &str = "the address is in use, and the old process has not passed a socket there; if that one has taken it with \
                          `files`, `udp` or `unix_datagram`, let it pass it on with `ActivatedListeners::pass_to_successor`, otherwise stop \
                          the process that listens there (ss -ltnp; ss -lxp), or choose another";

/// Where a socket that was passed has the fallback's address, under another name, the error says so: a reader who learns only that
/// the address is in use looks for another process, and there is none.
fn explain(error: Error, name: &str, addr: &AskedAddr, set: &ActivatedListeners, more: &[Slot]) -> Error {
    if !error.is_address_in_use() {
        return error;
    }
    let slots = set.lock();
    let there = |slot: &&Slot| slot.info.is_passed() && slot.info.addr().is_some_and(|bound| addr.overlaps(bound));
    let bind = |remedy| {
        Kind::Bind { address: addr.addr().to_string(), remedy, source: io::ErrorKind::AddrInUse.into() }.into()
    };
    let Some(slot) = slots.iter().chain(more).find(there) else {
        drop(slots);
        return if set.has_predecessor() { bind(NOT_SHARED.to_owned()) } else { error };
    };
    let descriptor = slot.descriptor().map_or(String::new(), |fd| format!(" as descriptor {fd}"));
    let remedy = match slot.info.name() {
        "" => format!(
            "this process was passed a socket there{descriptor}, without a name; name each that was passed with \
             LISTEN_FDNAMES=NAME:NAME (FileDescriptorName= in a .socket unit, --fdname= of systemd-socket-activate), this one {name:?}"
        ),
        other => format!(
            "this process was passed a socket there{descriptor}, under the name {other:?}; name it {name:?} with \
             FileDescriptorName= in its .socket unit (--fdname= of systemd-socket-activate)"
        ),
    };
    bind(remedy)
}

fn note_fallback(name: &str, addr: &ListenAddr, passed: &[String]) {
    if passed.is_empty() {
        log::info!(name, %addr, "no socket of this name was passed, listening on the fallback");
    } else if passed.iter().any(|passed| passed == name) {
        log::info!(name, %addr, "this name has another address than in the predecessor, listening there");
    } else {
        log::warn!(name, %addr, ?passed, "no socket of this name was passed but others were, listening on the fallback");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::{fd::AsRawFd, unix::net::UnixListener},
    };

    use super::*;

    #[test]
    fn a_fallback_in_the_way_of_a_socket_passed_under_another_name_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let wildcard = TcpListener::bind("[::]:0").unwrap();
        let specific = format!("127.0.0.1:{}", wildcard.local_addr().unwrap().port());
        for (fd, addr) in [(OwnedFd::from(unix), path.to_str().unwrap()), (wildcard.into(), &*specific)] {
            let descriptor = fd.as_raw_fd();
            let builder = ActivatedListenersBuilder::default().socket("app.socket", fd).fallback("http", addr);
            let error = builder.build().unwrap_err();
            assert!(error.is_address_in_use());
            let says = format!(
                "this process was passed a socket there as descriptor {descriptor}, under the name \"app.socket\"; name it \"http\" with"
            );
            assert!(error.to_string().contains(&says), "{error}");
        }
    }

    #[test]
    fn a_fallback_whose_address_a_stranger_has_says_that_it_is_in_use() {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let builder = ActivatedListenersBuilder::default().socket("app.socket", passed);
        let error = builder.fallback("http", stranger.local_addr().unwrap()).build().unwrap_err();
        assert!(error.is_address_in_use());
        assert!(error.to_string().contains("stop who has it"), "{error}");
    }
}
