//! A set of sockets on its way to the next process, and in it.

use std::{
    any::Any,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard, PoisonError},
};

use super::{ActivatedListeners, ActivatedSocket, Place, builder::valid_name, environment::check_name, slot::Slot};
use crate::{
    error::{Error, Kind},
    log,
    sys::path::CreatedPath,
};

/// The name of the descriptor that a predecessor is spoken to through, among those that are passed.
pub(crate) const CONTROL_NAME: &str = "axum-activation.handoff";

/// A socket as it goes to a successor.
#[derive(Debug)]
pub(crate) struct Heirloom {
    pub(crate) name: Arc<str>,
    pub(crate) fd: OwnedFd,
    pub(crate) origin: SocketOrigin,
}

/// Where a socket comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketOrigin {
    /// This process or one before it bound it, so nobody else holds it.
    pub(crate) bound: bool,
    /// The path that was created for it, its device and its inode.
    pub(crate) created: Option<(PathBuf, u64, u64)>,
}

impl SocketOrigin {
    pub(super) fn created_path(&self) -> Option<CreatedPath> {
        let (path, device, inode) = self.created.clone()?;
        Some(CreatedPath::of_another(path, device, inode))
    }
}

/// Listening sockets that block. Dropped, they do not block any more.
#[derive(Debug)]
#[must_use = "dropped, the sockets do not block any more"]
pub(crate) struct Blocking(Option<ActivatedListeners>);

impl Blocking {
    /// Leaves them to another process as they are.
    pub(crate) fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        let Some(set) = self.0.take() else { return };
        for slot in set.lock().iter() {
            if let Err(error) = slot.set_blocking(false) {
                log::error!(socket = %slot.info, %error, "a socket that was prepared for the next process may block");
            }
        }
    }
}

impl Heirloom {
    /// Its name as `LISTEN_FDNAMES` can carry it; a socket that was bound by its address alone has none.
    pub(crate) fn variable_name(&self) -> &str {
        if check_name(&self.name).is_ok() { &self.name } else { "" }
    }
}

impl ActivatedListeners {
    /// Has a successor get `socket` too, under `name`: one that was taken as a bare descriptor or as a datagram socket,
    /// which this set knows nothing of once it is taken. A duplicate of it stays open as long as the process runs.
    ///
    /// Listeners go to a successor without it, as long as they are accepted from.
    ///
    /// ```
    /// use std::net::UdpSocket;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().socket("quic", UdpSocket::bind("127.0.0.1:0")?).build()?;
    /// for socket in activated.files("quic")? {
    ///     activated.pass_to_successor("quic", &socket)?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `name` is no name, or no descriptor is left for the duplicate.
    pub fn pass_to_successor(&self, name: &str, socket: impl AsFd) -> Result<(), Error> {
        self.check_not_shown_only(name)?;
        valid_name(name)?;
        let duplicate = socket.as_fd().try_clone_to_owned();
        let duplicate =
            duplicate.map_err(|source| Kind::Socket { name: name.to_owned(), doing: "duplicate", source })?;
        self.lock().push(Slot::shared(name, duplicate));
        Ok(())
    }

    /// Duplicates of all that a successor is to have, in order: what was passed, and what listens.
    pub(crate) fn for_successor(&self) -> io::Result<Vec<Heirloom>> {
        self.lock().iter().filter_map(|slot| slot.heirloom().transpose()).collect()
    }

    /// The sockets that no successor gets, as the service took them from the set and has not shared them.
    pub(crate) fn withheld(&self) -> Vec<ActivatedSocket> {
        let slots = self.lock();
        let is_shared = |name: &str| slots.iter().any(|slot| slot.is_shared() && slot.info.name() == name);
        let withheld = slots.iter().filter(|slot| slot.is_withheld() && !is_shared(slot.info.name()));
        withheld.map(|slot| slot.info.clone()).collect()
    }

    /// Makes the listening sockets block, as a program expects them that knows nothing of this one. The flag is of the socket and not of
    /// a process, so nothing may accept here meanwhile.
    ///
    /// # Errors
    ///
    /// The reason: something accepts from one of them that cannot be asked to stop, or the system refuses.
    pub(crate) fn make_blocking(&self) -> Result<Blocking, String> {
        let slots = self.lock();
        if let Some(slot) = slots.iter().find(|slot| slot.is_accepted_elsewhere()) {
            return Err(format!(
                "the socket {:?} ({}) is accepted from outside of Server, and would block a thread there, as a plain successor takes sockets \
                 that block (O_NONBLOCK is of the socket, open(2)); serve it by a route of Server",
                slot.info.name(),
                slot.info.place()
            ));
        }
        let made = slots.iter().try_for_each(|slot| slot.set_blocking(true));
        drop(slots);
        // Where one of them fails, this makes those before it as they were.
        let blocking = Blocking(Some(self.clone()));
        made.map(|()| blocking).map_err(|error| format!("the sockets cannot be made to block: {error}"))
    }

    /// A successor has the sockets too, or has not: who is left alone with a path removes it in the end.
    pub(crate) fn set_passed_on(&self, passed_on: bool) {
        self.lock().iter().for_each(|slot| slot.set_passed_on(passed_on));
    }

    /// Notes where the sockets come from that a predecessor has passed, in its order.
    pub(crate) fn note_origins(&self, origins: &[SocketOrigin]) {
        let mut slots = self.lock();
        for slot in slots.iter_mut() {
            if let Some(origin) = slot.position().and_then(|position| origins.get(position)) {
                slot.note(origin);
            }
        }
    }

    /// Closes what a predecessor had bound and this process does not want: nobody would ever accept from it.
    pub(crate) fn close_unwanted(&self, wanted: impl Fn(&str) -> bool) {
        for slot in self.lock().iter_mut().filter(|slot| !wanted(slot.info.name())) {
            if slot.close_inherited() {
                log::info!(socket = %slot.info, "closed a socket that the predecessor had bound and nobody here serves");
            }
        }
    }

    /// Whether a predecessor has started this process and waits for it.
    pub(crate) fn has_control(&self) -> bool {
        let control = self.set.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.as_ref().is_some_and(|control| control.is::<OwnedFd>())
    }

    /// Whether a predecessor waits for this process, wherever they met.
    pub(crate) fn has_predecessor(&self) -> bool {
        self.set.control.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What the predecessor is spoken to through, once.
    pub(crate) fn take_control(&self) -> Option<Box<dyn Any + Send>> {
        self.set.control.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Adds the sockets of a predecessor, but for those of a name that somebody else has passed.
    pub(crate) fn admit(&self, sockets: impl IntoIterator<Item = (String, OwnedFd, SocketOrigin)>) {
        let mut slots = self.lock();
        let passed: Vec<_> =
            slots.iter().filter(|slot| slot.info.is_passed()).map(|slot| slot.info.shared_name()).collect();
        for (name, fd, origin) in sockets {
            if passed.iter().any(|passed| **passed == *name) {
                log::debug!(name, "the predecessor has handed over a socket of a name that was passed, which stays");
                continue;
            }
            let mut slot = Slot::passed(&name, fd);
            slot.note(&origin);
            slots.push(slot);
        }
    }

    /// Keeps others from adding sockets meanwhile that both would find missing.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.set.completion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps others from meeting another process meanwhile: they wait, and find what was met.
    pub(crate) fn meeting(&self) -> MutexGuard<'_, ()> {
        self.set.meeting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next process may meet this one.
    pub(crate) fn handoff_path(&self) -> Option<PathBuf> {
        self.place().path.clone()
    }

    pub(crate) fn set_handoff_path(&self, path: &Path) {
        self.place().path = Some(path.to_owned());
    }

    /// The users beside its own that this process hands over to, and takes over from.
    pub(crate) fn handoff_peers(&self) -> Vec<u32> {
        self.place().peers.clone()
    }

    pub(crate) fn add_handoff_peers(&self, users: &[u32]) {
        self.place().peers.extend(users);
    }

    pub(crate) fn has_place(&self) -> bool {
        self.place().bound.is_some()
    }

    pub(crate) fn set_place(&self, bound: Box<dyn Any + Send>) {
        self.place().bound = Some(bound);
    }

    /// The place where this process is met, once.
    pub(crate) fn take_place(&self) -> Option<Box<dyn Any + Send>> {
        self.place().bound.take()
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.set.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_control(&self, control: Box<dyn Any + Send>) {
        *self.set.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control);
    }
}
