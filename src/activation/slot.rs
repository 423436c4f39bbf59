//! One socket of a set: what it is, and whether it is still there to be taken.
//!
//! A slot stays in the set when its socket is taken. It then knows the listener weakly, so that a handoff can duplicate
//! the socket as long as the listener lives, and so that the set does not keep a socket open which the service has
//! closed.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{Arc, Weak},
};

use socket2::SockRef;

use super::{
    exported::{ExportedSocket, Provenance},
    info::ActivatedSocket,
};
use crate::{
    addr::{AskedAddr, ListenAddr},
    listener::{Bound, ListenerHandle, RawEndpoint},
    log,
    sys::{
        path::CreatedPath,
        socket::{self, SocketKind},
    },
};

/// A socket of a set, and its descriptor until it is taken.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) info: ActivatedSocket,
    held: Option<Held>,
    /// What the next process gets of it once it has been taken.
    taken: Taken,
    /// A predecessor had bound it.
    inherited: bool,
    /// systemd's fd store has it too, for the next process.
    stored: bool,
    /// The next process listens at another address.
    relocated: bool,
    /// A process of this service bound it, and hands it over.
    of_predecessor: bool,
    /// Its place among the sockets that were passed to this process.
    position: Option<usize>,
}

/// What a set still knows of a socket that was taken from it.
#[derive(Debug)]
enum Taken {
    /// It is free, or cannot be passed on.
    No,
    /// It is accepted from, as long as this is alive.
    Listener(Weak<ListenerHandle>),
    /// The service has it and wants a successor to have it, too; this is a duplicate.
    Shared(OwnedFd),
}

#[derive(Debug)]
struct Held {
    /// Before the socket, see [`CreatedPath`].
    path: Option<CreatedPath>,
    fd: OwnedFd,
}

impl Slot {
    /// A socket that another process opened.
    pub(super) fn passed(name: &str, fd: OwnedFd) -> Self {
        Self::new(name.into(), Held { fd, path: None }, true)
    }

    /// A socket that this process bound.
    pub(super) fn bound(name: &str, bound: Bound) -> Self {
        Self::new(name.into(), Held { fd: bound.fd, path: bound.path }, false)
    }

    /// A socket that an earlier process of this service bound.
    pub(super) fn restored(name: &str, fd: OwnedFd) -> Self {
        Self { inherited: true, stored: true, ..Self::new(name.into(), Held { fd, path: None }, false) }
    }

    /// A socket that was passed at that place among others; `bound` where a predecessor of this service had bound it.
    pub(super) fn passed_at(position: usize, name: &str, fd: OwnedFd, bound: bool) -> Self {
        Self { of_predecessor: bound, position: Some(position), ..Self::passed(name, fd) }
    }

    fn new(name: Arc<str>, held: Held, passed: bool) -> Self {
        let kind = socket::kind(held.fd.as_fd());
        let addr = SockRef::from(&held.fd).local_addr().ok();
        let addr = addr.as_ref().and_then(ListenAddr::from_kernel);
        let listening = socket::is_listening(held.fd.as_fd());
        let info = ActivatedSocket { name, kind, addr, passed, listening, taken: false };
        Self {
            info,
            held: Some(held),
            taken: Taken::No,
            inherited: false,
            stored: false,
            relocated: false,
            of_predecessor: false,
            position: None,
        }
    }

    /// A socket that the service has, and that a successor is to have as well.
    pub(super) fn shared(name: &str, duplicate: OwnedFd) -> Self {
        let mut slot = Self::passed(name, duplicate);
        if let Some(held) = slot.take() {
            slot.taken = Taken::Shared(held.fd);
        }
        slot
    }

    pub(super) fn is_free(&self) -> bool {
        self.held.is_some()
    }

    /// Its number, until it is taken.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.held.as_ref().map(|held| held.fd.as_raw_fd())
    }

    pub(super) fn is_connection(&self) -> bool {
        matches!(self.info.kind, SocketKind::Connection(_))
    }

    pub(super) fn is_listener(&self) -> bool {
        self.info.kind.is_served_listener()
    }

    /// Takes the bare descriptor. A path that this process created stays, as nothing is left to remove it.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        let (path, fd) = self.take_parts()?;
        if let Some(path) = path {
            path.keep();
        }
        Some(fd)
    }

    /// Takes the descriptor, and the path that was created for it.
    pub(super) fn take_parts(&mut self) -> Option<(Option<CreatedPath>, OwnedFd)> {
        self.take().map(|held| (held.path, held.fd))
    }

    /// A duplicate of the descriptor, until it is taken.
    pub(super) fn duplicate(&self) -> Option<io::Result<OwnedFd>> {
        self.held.as_ref().map(|held| held.fd.try_clone())
    }

    /// Is as it was before it was taken, with a duplicate of the descriptor. Nothing changes if it was not taken.
    pub(super) fn give_back(&mut self, fd: OwnedFd, path: Option<CreatedPath>) {
        if self.held.is_none() {
            self.held = Some(Held { path, fd });
            self.taken = Taken::No;
            self.info.taken = false;
        }
    }

    /// Takes it to accept connections from.
    pub(super) fn take_endpoint(&mut self) -> Option<RawEndpoint> {
        let held = self.take()?;
        let ActivatedSocket { kind, addr, passed, .. } = self.info.clone();
        let local = addr.unwrap_or(ListenAddr::Abstract(Vec::new()));
        let handle = Arc::new(ListenerHandle::new(held.path, passed));
        if self.is_listener() {
            self.taken = Taken::Listener(Arc::downgrade(&handle));
        }
        Some(RawEndpoint { fd: held.fd, kind, local, passed, handle })
    }

    /// Whether the service has it as a bare descriptor or a datagram socket, of which no successor gets anything.
    pub(super) fn is_withheld(&self) -> bool {
        self.info.taken && matches!(self.taken, Taken::No) && !self.is_connection()
    }

    /// Whether the service has shared it with its successor.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.taken, Taken::Shared(_))
    }

    /// What a successor gets of it, if it can be passed on.
    pub(super) fn export(&self) -> io::Result<Option<ExportedSocket>> {
        if self.is_connection() {
            return Ok(None);
        }
        let handle = self.handle();
        let fd = match (&self.held, &handle, &self.taken) {
            (Some(held), ..) => held.fd.try_clone(),
            (None, Some(handle), _) => match handle.duplicate() {
                Some(duplicate) => duplicate,
                None => return Ok(None),
            },
            (None, None, Taken::Shared(fd)) => fd.try_clone(),
            (None, None, _) => return Ok(None),
        }?;
        let identity = |path: &CreatedPath| {
            let (path, device, inode) = path.identity();
            (path.to_owned(), device, inode)
        };
        let created = match (&self.held, handle) {
            (Some(held), _) => held.path.as_ref().map(identity),
            (None, Some(handle)) => handle.path().as_ref().map(identity),
            (None, None) => None,
        };
        let name = self.info.shared_name();
        Ok(Some(ExportedSocket { name, fd, provenance: Provenance { bound: !self.info.passed, created } }))
    }

    /// Whether a predecessor that still serves had bound it, and it is still free.
    pub(super) fn is_of_predecessor(&self) -> bool {
        self.of_predecessor && self.is_free()
    }

    /// Whether it is bound to `addr`.
    pub(super) fn has_addr(&self, addr: &AskedAddr) -> bool {
        self.info.addr().is_some_and(|bound| addr.is_same_as(bound))
    }

    /// Whether to bind `addr` would give this very socket; any port will do for port 0.
    pub(super) fn is_at(&self, addr: &AskedAddr) -> bool {
        let any_port = matches!(addr.addr(), ListenAddr::Tcp(addr) if addr.port() == 0)
            || matches!(addr.addr(), ListenAddr::Port(0) | ListenAddr::Host { port: 0, .. });
        self.has_addr(addr) || any_port && matches!(self.info.addr(), Some(ListenAddr::Tcp(_)))
    }

    /// Its place among the sockets that were passed to this process.
    pub(super) fn position(&self) -> Option<usize> {
        self.position
    }

    /// The successor has another address: it ends with this process, and so does its path.
    pub(super) fn leave_replaced(&mut self) {
        self.held = None;
        self.relocated = true;
        if let Some(handle) = self.handle() {
            handle.set_shared(false);
            if let Some(path) = &*handle.path() {
                path.set_owned(true);
            }
        }
    }

    /// Whether something accepts from it that no handoff can ask to stop.
    pub(super) fn is_accepted_elsewhere(&self) -> bool {
        self.info.listening
            && match &self.taken {
                Taken::No => false,
                Taken::Listener(handle) => handle.upgrade().is_some_and(|handle| !handle.is_of_route()),
                Taken::Shared(_) => true,
            }
    }

    /// Makes it block, if it listens, or not block again.
    pub(super) fn set_blocking(&self, blocking: bool) -> io::Result<()> {
        let set = |fd: BorrowedFd<'_>| {
            socket::make_plain(fd, blocking)?;
            if blocking { Ok(()) } else { socket::limit_blocked_accept(fd) }
        };
        match (&self.held, self.handle()) {
            _ if !self.info.listening => Ok(()),
            (Some(held), _) => set(held.fd.as_fd()),
            (None, Some(handle)) => handle.with_socket(set).unwrap_or(Ok(())),
            (None, None) => Ok(()),
        }
    }

    /// Whether systemd's fd store has it too: then neither its queue nor its path ends with this process.
    pub(super) fn set_stored(&mut self, stored: bool) {
        self.stored = stored;
        self.set_passed_on(false);
    }

    /// Whether an earlier process bound it, the service manager kept it, and it is not taken yet.
    pub(super) fn is_restored(&self) -> bool {
        self.inherited && self.stored && self.is_free()
    }

    /// Is known as `name` from now on.
    pub(super) fn rename(&mut self, name: &str) {
        self.info.name = name.into();
    }

    /// Closes it for all processes that have it, so that its address is free.
    pub(super) fn stop_listening(&mut self) {
        if let Some(held) = self.held.take() {
            held.path.iter().for_each(|path| path.set_owned(true));
            let _ = SockRef::from(&held.fd).shutdown(Shutdown::Both);
        }
    }

    /// The path that was created for it.
    pub(super) fn set_path(&mut self, path: CreatedPath) {
        if let Some(held) = &mut self.held {
            held.path = Some(path);
        }
    }

    /// See [`set_passed_on`](super::ActivatedListeners::set_passed_on).
    pub(super) fn set_passed_on(&self, passed_on: bool) {
        let passed_on = passed_on && !self.relocated || self.stored;
        if let Some(path) = self.held.as_ref().and_then(|held| held.path.as_ref()) {
            path.set_owned(!passed_on);
        }
        if let Some(handle) = self.handle() {
            handle.set_shared(passed_on || self.info.passed);
            if let Some(path) = &*handle.path() {
                path.set_owned(!passed_on);
            }
        }
    }

    /// Sets where a socket comes from that a predecessor has passed. The predecessor still removes its path.
    pub(super) fn set_provenance(&mut self, provenance: &Provenance) {
        self.info.passed = !provenance.bound;
        self.inherited = provenance.bound;
        self.of_predecessor = provenance.bound;
        let path = provenance.created_path().filter(|path| self.is_bound_to(path));
        if let Some(held) = &mut self.held {
            held.path = path;
        } else if let Some(handle) = self.handle() {
            handle.set_shared(!provenance.bound);
            *handle.path() = path;
        }
    }

    /// Whether the socket is bound to that path, which a predecessor names, by what the kernel says. The service may have bound it as a
    /// relative path.
    fn is_bound_to(&self, path: &CreatedPath) -> bool {
        let (path, ..) = path.identity();
        let is_same = match &self.info.addr {
            Some(ListenAddr::Unix(name)) if name.is_absolute() => path == name,
            Some(ListenAddr::Unix(name)) => path.ends_with(name.strip_prefix(".").unwrap_or(name)),
            _ => false,
        };
        if !is_same {
            log::warn!(socket = %self.info, path = %path.display(), "the predecessor names a path of another socket, so it stays");
        }
        is_same
    }

    /// Closes it if a predecessor had bound it and it is not taken.
    pub(super) fn close_inherited(&mut self) -> bool {
        if !self.inherited || !self.info.listening {
            return false;
        }
        let held = self.held.take();
        held.as_ref().and_then(|held| held.path.as_ref()).into_iter().for_each(|path| path.set_owned(true));
        held.is_some()
    }

    fn handle(&self) -> Option<Arc<ListenerHandle>> {
        match &self.taken {
            Taken::Listener(handle) => handle.upgrade(),
            _ => None,
        }
    }

    fn take(&mut self) -> Option<Held> {
        let held = self.held.take();
        self.info.taken |= held.is_some();
        held
    }
}
