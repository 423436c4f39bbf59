//! A set of sockets on its way to the next process: which sockets it gets, as duplicates, and in which mode.
//!
//! A successor of this crate gets sockets that do not block, and this process goes on to accept from them until the
//! commit. A plain program expects sockets that block, as a service manager passes them. `O_NONBLOCK` is in the open
//! file description, so this process stops to accept before, and sets the flag again if the other program fails.

use std::{io, os::fd::AsFd};

use super::{exported::ExportedSocket, info::ActivatedSocket, names::valid_name, set::ActivatedListeners, slot::Slot};
use crate::{
    error::{Error, Kind},
    log,
};

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
    pub(crate) fn for_successor(&self) -> io::Result<Vec<ExportedSocket>> {
        self.lock().iter().filter_map(|slot| slot.export().transpose()).collect()
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
}
