//! Listeners that systemd's fd store has kept over a restart, in the set of the next process; and storing this
//! process's own.
//!
//! A restored listener counts as bound by this service and not as passed: a fallback of its name takes it, if the
//! address is still the same. If the address has changed, the old socket is closed and the new address is bound.

use std::{io, os::fd::OwnedFd};

use super::{
    exported::ExportedSocket,
    set::ActivatedListeners,
    stored::{StoredListener, name_in_store},
};
use crate::{
    addr::AskedAddr,
    error::Error,
    listener::{self, Bound, ListenOptions},
    log,
};

impl ActivatedListeners {
    /// Takes the connections that the fd store has kept, with their journals.
    pub(crate) fn take_stored_connections(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.stored().connections)
    }

    /// Has `keep` keep a duplicate of each listener that this process or one before it bound, `most` of them, under the name that it
    /// is given. From then on the manager has them too. First has `forget` forget what the manager has and is not wanted any more.
    /// Returns how long these names are, one by one.
    pub(crate) fn store_listeners(
        &self,
        most: usize,
        remove: impl FnMut(&str),
        store: impl FnMut(&str, OwnedFd),
    ) -> io::Result<Vec<usize>> {
        self.store_as(name_in_store, most, remove, store)
    }

    /// Stores the stored listeners again, under the names that a plain successor knows them by.
    pub(crate) fn store_listeners_plainly(
        &self,
        remove: impl FnMut(&str),
        store: impl FnMut(&str, OwnedFd),
    ) -> io::Result<()> {
        let most = self.stored().listeners.len();
        self.store_as(|socket| Some(socket.variable_name().to_owned()), most, remove, store).map(drop)
    }

    fn store_as(
        &self,
        name: impl Fn(&ExportedSocket) -> Option<String>,
        most: usize,
        remove: impl FnMut(&str),
        mut store: impl FnMut(&str, OwnedFd),
    ) -> io::Result<Vec<usize>> {
        let mut slots = self.lock();
        let (mut stored, mut listeners) = (Vec::new(), Vec::new());
        for slot in slots.iter_mut().filter(|slot| !slot.info.is_passed()) {
            let Some(socket) = slot.export()? else { continue };
            let name = name(&socket).filter(|_| stored.len() < most);
            slot.set_stored(name.is_some());
            match name {
                Some(name) => {
                    stored.push(StoredListener::new(&name, &socket.fd));
                    listeners.push(socket.fd);
                }
                None if most > 0 => log::warn!(socket = %slot.info, "the fd store has no room for this socket"),
                None => {}
            }
        }
        let before = std::mem::replace(&mut self.stored().listeners, stored.clone());
        before.iter().filter(|listener| !stored.contains(listener)).map(|listener| &*listener.name).for_each(remove);
        stored.iter().zip(listeners).for_each(|(listener, fd)| store(&listener.name, fd));
        Ok(stored.iter().map(|listener| listener.name.len()).collect())
    }

    /// Gives what was kept the name that its address has now among `fallbacks`: no caller asks for the one it had, and its
    /// address could not be bound beside it.
    pub(super) fn rename_restored(&self, fallbacks: &[(&str, &AskedAddr)]) {
        let mut slots = self.lock();
        let passed: Vec<_> =
            slots.iter().filter(|slot| slot.info.is_passed()).map(|slot| slot.info.shared_name()).collect();
        for slot in slots.iter_mut().filter(|slot| slot.is_restored()) {
            if fallbacks.iter().any(|(name, addr)| slot.info.name() == *name && slot.is_at(addr)) {
                continue;
            }
            let now = fallbacks
                .iter()
                .find(|(name, addr)| slot.has_addr(addr) && !passed.iter().any(|passed| **passed == **name));
            if let Some((name, _)) = now {
                log::info!(socket = %slot.info, name, "the address of a stored socket has another name now");
                slot.rename(name);
            }
        }
    }

    /// Binds `addr`. A restored listener in the way is closed for it, unless its name is `wanted`: the store has it too, and systemd would
    /// pass it to one process after the other, none of which could start.
    pub(super) fn bind_in_place(
        &self,
        addr: &AskedAddr,
        options: &ListenOptions,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Bound, Error> {
        match listener::bind(addr, options) {
            Err(error) if error.is_address_in_use() && self.close_in_the_way(addr, wanted) => {
                listener::bind(addr, options)
            }
            bound => bound,
        }
    }

    /// Closes the restored listeners of that name that are at none of these addresses, so that they can be bound.
    pub(super) fn close_relocated(&self, name: &str, addrs: &[&AskedAddr]) {
        let mut slots = self.lock();
        slots.retain_mut(|slot| {
            let stays = slot.info.name() != name || !slot.is_restored() || addrs.iter().any(|addr| slot.is_at(addr));
            if !stays {
                log::info!(socket = %slot.info, "closed a stored socket, its name has another address now");
                slot.stop_listening();
            }
            stays
        });
    }

    /// Whether there is a socket of that name, and for what an earlier process of this service bound: at that address.
    pub(super) fn provides(&self, name: &str, addr: &AskedAddr) -> bool {
        let slots = self.lock();
        let mut namesakes = slots.iter().filter(|slot| slot.info.name() == name);
        namesakes.any(|slot| !(slot.is_restored() || slot.is_of_predecessor()) || slot.is_at(addr))
    }

    /// Whether an earlier process of this service bound anything that is still free: addresses say then what becomes of it.
    pub(super) fn has_restored(&self) -> bool {
        self.lock().iter().any(|slot| slot.is_restored() || slot.is_of_predecessor())
    }

    /// Whether one was in the way.
    fn close_in_the_way(&self, addr: &AskedAddr, wanted: impl Fn(&str) -> bool) -> bool {
        let mut slots = self.lock();
        let before = slots.len();
        slots.retain_mut(|slot| {
            let is_over = slot.is_restored() && !wanted(slot.info.name());
            let stays = !is_over || !slot.info.addr().is_some_and(|bound| addr.overlaps(bound));
            if !stays {
                log::info!(socket = %slot.info, addr = %addr.addr(), "closed a stored socket, it is in the way of another address");
                slot.stop_listening();
            }
            stays
        });
        slots.len() < before
    }
}
