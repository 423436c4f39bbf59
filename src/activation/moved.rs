//! Listeners whose address changes from one process to the next.
//!
//! The new process binds the address that it asks for before it is ready. The old process accepts what waits at its own address when the
//! new one serves, and closes it. A socket that a service manager passed is not concerned: it stays where the manager has it.

use super::set::ActivatedListeners;
use crate::{
    addr::AskedAddr,
    error::{Error, Kind},
    log,
    wire::moved::ReplacedListener,
};

impl ActivatedListeners {
    /// Closes what the predecessor had bound under `name` and is at none of these addresses; the predecessor still has it.
    pub(super) fn close_replaced(&self, name: &str, addrs: &[&AskedAddr]) {
        let mut replaced = Vec::new();
        self.lock().retain(|slot| {
            let stays = slot.info.name() != name
                || !slot.is_of_predecessor()
                || !slot.info.is_listening()
                || addrs.iter().any(|addr| slot.is_at(addr));
            if !stays {
                log::info!(socket = %slot.info, "this name has another address now, the predecessor closes this one");
                replaced.push(ReplacedListener { name: name.to_owned(), address: slot.info.place() });
            }
            stays
        });
        self.handoff().replaced.extend(replaced);
    }

    /// The listeners of the predecessor that this process does not go on with.
    pub(crate) fn replaced(&self) -> Vec<ReplacedListener> {
        self.handoff().replaced.clone()
    }

    /// The successor does not go on with these: they are this process's alone, and end with it.
    pub(crate) fn leave_replaced(&self, replaced: &[ReplacedListener]) {
        let is_replaced = |name: &str, address: &str| {
            replaced.iter().any(|replaced| replaced.name == name && replaced.address == address)
        };
        for slot in self.lock().iter_mut().filter(|slot| is_replaced(slot.info.name(), &slot.info.place())) {
            log::info!(socket = %slot.info, "the successor listens at another address, closing this one");
            slot.leave_replaced();
        }
    }

    /// Says of an address that cannot be bound for `name` that it was another one before.
    pub(super) fn explain_replaced(&self, error: Error, name: &str, addr: &AskedAddr) -> Error {
        let addr = addr.addr();
        let before = self
            .handoff()
            .replaced
            .iter()
            .find(|replaced| replaced.name == name)
            .map(|replaced| replaced.address.clone());
        match before {
            None => error,
            Some(before) => Kind::Bind {
                address: addr.to_string(),
                remedy: format!(
                    "the address of {name:?} is to change from {before} to {addr}, and the predecessor listens at {before} until this \
                     process is ready; choose an address that can be bound beside it, or restart without a handoff ({error})"
                ),
                source: std::io::ErrorKind::AddrInUse.into(),
            }
            .into(),
        }
    }
}
