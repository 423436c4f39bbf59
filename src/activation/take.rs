//! Taking sockets from a set: by name, or by address.
//!
//! A socket is registered with the runtime while the set is locked, so that a socket is either free or taken, and no
//! caller sees a state in between.

use std::{
    io,
    net::UdpSocket as StdUdpSocket,
    os::{fd::OwnedFd, unix::net::UnixDatagram as StdUnixDatagram},
};

use tokio::net::{UdpSocket, UnixDatagram};

use super::{
    loan::Loan,
    requirement::{ANYTHING, CONNECTION, STREAM, SocketRequirement, UDP, UNIX_DATAGRAM},
    set::ActivatedListeners,
    slot::Slot,
};
use crate::{
    addr::{AskedAddr, ListenAddr},
    error::{Error, Kind},
    listener::{ActivatedListener, ListenOptions},
};

impl ActivatedListeners {
    /// One listener that accepts, in turn, from every socket of that name.
    ///
    /// The one connection of an `Accept=yes` unit answers to every name, as systemd up to 254 calls it `connection`
    /// whatever the unit says.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder()
    ///     .fallback("http", "127.0.0.1:0")
    ///     .fallback("http", "@axum-activation-one")
    ///     .build()?;
    /// assert_eq!(activated.one("http")?.local_addrs().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Nothing is taken then.
    ///
    /// - No socket of that name was passed or bound ([`is_unknown_name`](Error::is_unknown_name)).
    /// - It has been taken ([`is_already_taken`](Error::is_already_taken)).
    /// - One of its sockets is no stream socket that listens or is connected ([`is_wrong_kind`](Error::is_wrong_kind)).
    /// - There is no tokio runtime to register it with.
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
    /// It is for programs that treat them apart, as with a limit for each. [`one`](Self::one) accepts from all.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder()
    ///     .fallback("http", "127.0.0.1:0")
    ///     .fallback("http", "@axum-activation-all")
    ///     .build()?;
    /// for listener in activated.all("http")? {
    ///     println!("{}", listener.local_addrs()[0]);
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
    /// Close-on-exec and non-blocking are set. A Unix path that this process bound stays when they are closed. A
    /// successor gets none of them, unless [`pass_to_successor`](Self::pass_to_successor) says so.
    ///
    /// ```
    /// use std::fs::File;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().socket("state", File::open("/dev/null")?).build()?;
    /// let files: Vec<File> = activated.files("state")?.into_iter().map(File::from).collect();
    /// assert_eq!(files.len(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No socket of that name was passed or bound, or it has been taken.
    pub fn files(&self, name: &str) -> Result<Vec<OwnedFd>, Error> {
        self.take(name, &ANYTHING, |slots| Ok(slots.into_iter().filter_map(Slot::take_fd).collect()))
    }

    /// The UDP sockets of that name.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::net::UdpSocket;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().socket("quic", UdpSocket::bind("127.0.0.1:0")?).build()?;
    /// for socket in activated.udp("quic")? {
    ///     println!("{}", socket.local_addr()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::os::unix::net::UnixDatagram;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().socket("log", UnixDatagram::unbound()?).build()?;
    /// assert_eq!(activated.unix_datagram("log")?.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
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
    /// Wildcard addresses compare equal, of either family, and so do an IPv4 address and the same mapped into IPv6. A
    /// host name is looked up, which may block. A fresh socket joins the set under its address as name.
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, ListenOptions};
    ///
    /// let options = ListenOptions::new().backlog(16_384);
    /// let listener = ActivatedListeners::from_env()?.listen_with(&"127.0.0.1:0".parse()?, &options)?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
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
        let inherited = slots.iter_mut().find(|slot| slot.is_free() && slot.is_listener() && slot.has_addr(&addr));
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

    /// An error unless [`one`](Self::one) can take that name now. It takes nothing.
    pub(crate) fn check_one(&self, name: &str) -> Result<(), Error> {
        self.take(name, self.stream(), |_| Ok(()))
    }

    /// What can be accepted from: a connection only when it is all that was passed.
    fn stream(&self) -> &'static SocketRequirement {
        if self.one_connection().is_some() { &CONNECTION } else { &STREAM }
    }

    /// Takes every free socket of that name, or none of them. The set is locked meanwhile.
    fn take<T>(
        &self,
        name: &str,
        wanted: &SocketRequirement,
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
        wanted: &SocketRequirement,
        register: impl Fn(OwnedFd) -> io::Result<T>,
    ) -> Result<Vec<T>, Error> {
        self.take(name, wanted, |slots| Loan::of(slots)?.datagrams(register))
    }
}
