//! Sockets by name: from the environment, from fallbacks, owned once.

use std::{
    any::Any,
    fmt,
    net::UdpSocket as StdUdpSocket,
    os::{fd::OwnedFd, unix::net::UnixDatagram as StdUnixDatagram},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::net::{UdpSocket, UnixDatagram};

mod builder;
mod environment;
mod info;
mod kept;
mod loan;
mod moved;
mod origin;
mod slot;
mod succession;

pub use self::{
    builder::{ActivatedListenersBuilder, ForeignPid},
    info::ActivatedSocket,
};
pub(crate) use self::{
    environment::check_name,
    kept::CONNECTIONS_NAME,
    moved::BOUND,
    origin::{HELD_OFF, Origin, Parent, held_off},
    succession::{CONTROL_NAME, Heirloom, SocketOrigin},
};
use self::{
    kept::Kept,
    loan::Loan,
    slot::{Slot, Wanted},
};
use crate::{
    addr::{AskedAddr, ListenAddr},
    error::{Error, Kind},
    listener::{ActivatedListener, ListenOptions},
    log,
    sys::socket::{SocketFamily, SocketKind},
};

const STREAM: Wanted = Wanted {
    what: "a listener",
    matches: SocketKind::is_served_listener,
    remedy: "pass a listening stream socket (a connected one is served when it is all that was passed; ListenStream= in systemd.socket(5); vsock takes the feature `vsock`), or take \
             what is there with `files`, `udp` or `unix_datagram`",
};
/// The one connection of `Accept=yes`, which comes alone.
const CONNECTION: Wanted = Wanted { matches: SocketKind::is_served, ..STREAM };
const UDP: Wanted = Wanted {
    what: "a UDP socket",
    matches: |kind| matches!(kind, SocketKind::Datagram(SocketFamily::Ipv4 | SocketFamily::Ipv6)),
    remedy: "pass one with ListenDatagram=host:port",
};
const UNIX_DATAGRAM: Wanted = Wanted {
    what: "a Unix datagram socket",
    matches: |kind| kind == SocketKind::Datagram(SocketFamily::Unix),
    remedy: "pass one with ListenDatagram=/path",
};
const ANYTHING: Wanted = Wanted { what: "a file", matches: |_| true, remedy: "" };

/// The sockets that this process was passed, and those it bound for want of them, by name.
///
/// Each is owned once: whoever takes a name has it alone. Clones share one set. What was passed is claimed once a process,
/// with close-on-exec and non-blocking set at once; a second [`from_env`](Self::from_env) answers with the same set, and
/// the environment is never edited.
///
/// Names repeat: a `.socket` unit with several `ListenStream=` lines passes them all under its one `FileDescriptorName=`.
/// Without that line the name is the unit's own, such as `app.socket`. Where no names are passed, each is `""`; where the program
/// then has one name for a listener, that of its fallbacks or of the server's one route, the listeners get this name.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use axum_activation::ActivatedListeners;
///
/// let activated = ActivatedListeners::builder()
///     .fallback("http", "127.0.0.1:0") // bound only when nobody passed a socket named "http"
///     .from_env()?;
///
/// for socket in &activated {
///     println!("{socket}");
/// }
/// let listener = activated.one("http")?;
/// # drop(listener);
/// # Ok(())
/// # }
/// ```
///
/// In a handler it is an extractor, under [`Server`](crate::Server): it shows what this process serves, and takes nothing.
#[derive(Clone)]
#[doc(alias = "sd_listen_fds_with_names")]
pub struct ActivatedListeners {
    set: Arc<Set>,
    shown_only: bool,
}

/// Where the next process may meet this one.
#[derive(Default)]
struct Place {
    path: Option<PathBuf>,
    /// Users of other processes of this service.
    peers: Vec<u32>,
    bound: Option<Box<dyn Any + Send>>,
}

struct Set {
    slots: Mutex<Vec<Slot>>,
    /// What a predecessor is spoken to through; whoever does that takes it.
    control: Mutex<Option<Box<dyn Any + Send>>>,
    /// Where this process is met by others, once it has that place.
    place: Mutex<Place>,
    /// What the service manager kept for this process.
    kept: Mutex<Kept>,
    /// Held while sockets are added that the set lacks, and never for long.
    completion: Mutex<()>,
    /// Held while another process is met, for as long as that takes.
    meeting: Mutex<()>,
    /// What the predecessor has that this process does not go on with.
    moved: Mutex<Vec<crate::wire::moved::MovedListener>>,
}

impl ActivatedListeners {
    /// The sockets that were passed to this process; the same set at every call.
    ///
    /// # Errors
    ///
    /// As [`ActivatedListenersBuilder::from_env`].
    #[doc(alias = "sd_listen_fds")]
    pub fn from_env() -> Result<Self, Error> {
        Self::builder().from_env()
    }

    /// Adds fallbacks, and says what to do when the sockets are meant for another process.
    pub fn builder() -> ActivatedListenersBuilder {
        ActivatedListenersBuilder::default()
    }

    /// One listener that accepts, in turn, from every socket of that name.
    ///
    /// The one connection of an `Accept=yes` unit answers to every name, as systemd up to 254 calls it `connection` whatever
    /// the unit says.
    ///
    /// # Errors
    ///
    /// Nobody passed or bound that name, it has been taken, one of its sockets is no stream socket that listens or is
    /// connected ([`is_unknown_name`](Error::is_unknown_name), [`is_already_taken`](Error::is_already_taken),
    /// [`is_wrong_kind`](Error::is_wrong_kind)), or there is no tokio runtime. Nothing is taken then.
    pub fn one(&self, name: &str) -> Result<ActivatedListener, Error> {
        ActivatedListener::check_runtime(name)?;
        self.take(name, self.stream(), |slots| Loan::of(slots)?.listener(name.into()))
    }

    /// As [`one`](Self::one), for a socket that may be missing: `None` if no socket of that name was passed and none was bound.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// assert!(activated.optional("http")?.is_some());
    /// assert!(activated.optional("metrics")?.is_none()); // the service runs without it
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`one`](Self::one), but for [`is_unknown_name`](Error::is_unknown_name): a socket that was taken already, or that is of
    /// another kind, is an error.
    pub fn optional(&self, name: &str) -> Result<Option<ActivatedListener>, Error> {
        match self.one(name) {
            Err(error) if error.is_unknown_name() => Ok(None),
            taken => taken.map(Some),
        }
    }

    /// A listener for each socket of that name, in the order in which they were passed.
    ///
    /// # Errors
    ///
    /// As [`one`](Self::one).
    pub fn all(&self, name: &str) -> Result<Vec<ActivatedListener>, Error> {
        ActivatedListener::check_runtime(name)?;
        self.take(name, self.stream(), |slots| Loan::of(slots)?.listeners(&name.into()))
    }

    /// Everything of that name as it came: a FIFO, a netlink socket, a message queue, a regular file.
    ///
    /// Close-on-exec and non-blocking are set. A Unix path that this process bound stays when they are closed.
    ///
    /// # Errors
    ///
    /// Nobody passed or bound that name, or it has been taken.
    pub fn files(&self, name: &str) -> Result<Vec<OwnedFd>, Error> {
        self.take(name, &ANYTHING, |slots| Ok(slots.into_iter().filter_map(Slot::take_fd).collect()))
    }

    /// The UDP sockets of that name.
    ///
    /// # Errors
    ///
    /// As [`one`](Self::one), if one of them is something else than a UDP socket.
    pub fn udp(&self, name: &str) -> Result<Vec<UdpSocket>, Error> {
        ActivatedListener::check_runtime(name)?;
        let register = |fd: OwnedFd| UdpSocket::from_std(StdUdpSocket::from(fd));
        self.datagram(name, &UDP, register)
    }

    /// The Unix datagram sockets of that name.
    ///
    /// # Errors
    ///
    /// As [`one`](Self::one), if one of them is something else than a Unix datagram socket.
    pub fn unix_datagram(&self, name: &str) -> Result<Vec<UnixDatagram>, Error> {
        ActivatedListener::check_runtime(name)?;
        let register = |fd: OwnedFd| UnixDatagram::from_std(StdUnixDatagram::from(fd));
        self.datagram(name, &UNIX_DATAGRAM, register)
    }

    /// A socket that listens on `addr`: one of this set with that name (`&name`) or that address, else a fresh one.
    ///
    /// Wildcard addresses compare equal, of either family, and so do an IPv4 address and the same mapped into IPv6. A host
    /// name is looked up, which may block. A fresh socket joins the set under its address as name.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, ListenAddr};
    ///
    /// let addr: ListenAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:0").parse()?;
    /// let listener = ActivatedListeners::from_env()?.listen(&addr)?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`one`](Self::one) for `&name`; otherwise if the address cannot be bound:
    /// [`is_address_in_use`](Error::is_address_in_use) also when a socket of this set with that address has been taken.
    pub fn listen(&self, addr: &ListenAddr) -> Result<ActivatedListener, Error> {
        self.listen_with(addr, &ListenOptions::new())
    }

    /// As [`listen`](Self::listen), with options for a fresh socket.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub fn listen_with(&self, addr: &ListenAddr, options: &ListenOptions) -> Result<ActivatedListener, Error> {
        if let ListenAddr::Named(name) = addr {
            return self.one(name);
        }
        let text = addr.to_string();
        ActivatedListener::check_runtime(&text)?;
        self.check_not_shown_only(&text)?;
        let addr = AskedAddr::look_up(addr.clone());
        let mut slots = self.lock();
        let inherited = slots.iter_mut().find(|slot| slot.is_free() && slot.is_listener() && has_addr(slot, &addr));
        if let Some(slot) = inherited {
            let name = slot.info.shared_name();
            return Loan::of(vec![slot])?.listener(name);
        }
        drop(slots);
        let is_a_name = |name: &str| name.parse::<ListenAddr>().is_err();
        let mut slot = Slot::bound(&text, self.bind_in_place(&addr, options, is_a_name)?);
        let listener = Loan::of(vec![&mut slot])?.listener(text.into())?;
        self.lock().push(slot);
        Ok(listener)
    }

    /// The names of this set, each once, in the order in which they were passed and then bound.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for slot in self.lock().iter() {
            let name = slot.info.name();
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// What is in the set now, taken or not, in the order in which it was passed and then bound.
    #[must_use]
    pub fn iter(&self) -> std::vec::IntoIter<ActivatedSocket> {
        let infos: Vec<_> = self.lock().iter().map(|slot| slot.info.clone()).collect();
        infos.into_iter()
    }

    /// An error unless [`one`](Self::one) can take that name now; takes nothing.
    pub(crate) fn check_one(&self, name: &str) -> Result<(), Error> {
        self.take(name, self.stream(), |_| Ok(()))
    }

    /// Names the listeners that were passed without a name, where no socket that was passed has one and none is named `name`: the
    /// launcher cannot name sockets, and the program asks for no other.
    pub(crate) fn name_unnamed(&self, name: &str) {
        let mut slots = self.lock();
        let is_named = |slot: &Slot| slot.info.is_passed() && !slot.info.name().is_empty();
        if slots.iter().any(|slot| is_named(slot) || slot.info.name() == name) {
            return;
        }
        for slot in slots.iter_mut().filter(|slot| slot.info.is_passed() && slot.is_free() && slot.is_listener()) {
            log::info!(
                address = slot.info.place(),
                name,
                "a socket that was passed without a name gets the only name there is"
            );
            slot.rename(name);
        }
    }

    /// What can be accepted from: a connection only when it is all that was passed.
    fn stream(&self) -> &'static Wanted {
        if self.one_connection().is_some() { &CONNECTION } else { &STREAM }
    }

    /// The connection of an `Accept=yes` unit, when that is all that was passed.
    pub(crate) fn one_connection(&self) -> Option<ActivatedSocket> {
        let slots = self.lock();
        let mut passed = slots.iter().filter(|slot| slot.info.is_passed());
        match (passed.next(), passed.next()) {
            (Some(slot), None) if slot.is_connection() => Some(slot.info.clone()),
            _ => None,
        }
    }

    /// The same set as a handler is shown it.
    pub(crate) fn shown(&self) -> Self {
        Self { set: Arc::clone(&self.set), shown_only: true }
    }

    fn new(slots: Vec<Slot>) -> Self {
        let set = Set {
            slots: Mutex::new(slots),
            control: Mutex::new(None),
            place: Mutex::default(),
            kept: Mutex::default(),
            completion: Mutex::default(),
            meeting: Mutex::default(),
            moved: Mutex::default(),
        };
        Self { set: Arc::new(set), shown_only: false }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.set.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, more: Vec<Slot>) {
        self.lock().extend(more);
    }

    fn check_not_shown_only(&self, name: &str) -> Result<(), Error> {
        if self.shown_only { Err(Kind::ShownOnly { name: name.to_owned() }.into()) } else { Ok(()) }
    }

    /// Takes every free socket of that name, or none of them. The set is locked meanwhile.
    fn take<T>(
        &self,
        name: &str,
        wanted: &Wanted,
        take: impl FnOnce(Vec<&mut Slot>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.check_not_shown_only(name)?;
        let one_connection = self.one_connection();
        let known = self.names();
        let mut slots = self.lock();
        let answers = |slot: &Slot| slot.info.name() == name || one_connection.as_ref() == Some(&slot.info);
        if !slots.iter().any(answers) {
            let has_predecessor = self.has_predecessor();
            return Err(Kind::UnknownName { name: name.to_owned(), known, has_predecessor }.into());
        }
        let free: Vec<_> = slots.iter_mut().filter(|slot| slot.is_free() && answers(slot)).collect();
        if free.is_empty() {
            return Err(Kind::Taken { name: name.to_owned() }.into());
        }
        free.iter().try_for_each(|slot| wanted.check(slot))?;
        take(free)
    }

    fn datagram<T>(
        &self,
        name: &str,
        wanted: &Wanted,
        register: impl Fn(OwnedFd) -> std::io::Result<T>,
    ) -> Result<Vec<T>, Error> {
        self.take(name, wanted, |slots| Loan::of(slots)?.datagrams(register))
    }
}

impl fmt::Debug for ActivatedListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|socket| socket.to_string())).finish()
    }
}

impl IntoIterator for &ActivatedListeners {
    type Item = ActivatedSocket;
    type IntoIter = std::vec::IntoIter<ActivatedSocket>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn has_addr(slot: &Slot, addr: &AskedAddr) -> bool {
    slot.info.addr().is_some_and(|bound| addr.means(bound))
}
