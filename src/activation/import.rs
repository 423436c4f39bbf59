//! The sockets of the old process, in the set of the new one; and what the set knows of the handoff.
//!
//! By spawn the sockets came as `LISTEN_FDS` and are in the set already; the old process then says where each comes
//! from, by position. By rendezvous they come through the control socket. A socket that a service manager passed to
//! this process comes first: one of the same name that the old process hands over is closed here.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use super::{
    exported::Provenance, predecessor::Predecessor, set::ActivatedListeners, slot::Slot, start_context::held_off,
};
use crate::{
    log,
    sys::signals,
    wire::{peers::Peers, socket_path::BoundSocketPath},
};

impl ActivatedListeners {
    /// Keeps the control socket that the predecessor has left this process, which it has spawned.
    pub(super) fn link(&self, control: OwnedFd) {
        signals::hold_off(&held_off());
        self.set_predecessor(Predecessor::Spawn(control));
    }

    /// Whether the predecessor has spawned this process, and waits for it.
    pub(crate) fn is_spawned(&self) -> bool {
        matches!(self.handoff().predecessor, Some(Predecessor::Spawn(_)))
    }

    /// Whether a predecessor waits for this process, by spawn or by rendezvous.
    pub(crate) fn has_predecessor(&self) -> bool {
        self.handoff().predecessor.is_some()
    }

    pub(crate) fn set_predecessor(&self, predecessor: Predecessor) {
        self.handoff().predecessor = Some(predecessor);
    }

    /// The predecessor, for the one that joins it.
    pub(crate) fn take_predecessor(&self) -> Option<Predecessor> {
        self.handoff().predecessor.take()
    }

    /// Sets where the sockets come from that a predecessor has passed, in its order.
    pub(crate) fn set_provenances(&self, provenances: &[Provenance]) {
        let mut slots = self.lock();
        for slot in slots.iter_mut() {
            if let Some(provenance) = slot.position().and_then(|position| provenances.get(position)) {
                slot.set_provenance(provenance);
            }
        }
    }

    /// Closes what a predecessor had bound and this process does not want: nothing would ever accept from it.
    pub(crate) fn close_unwanted(&self, wanted: impl Fn(&str) -> bool) {
        for slot in self.lock().iter_mut().filter(|slot| !wanted(slot.info.name())) {
            if slot.close_inherited() {
                log::info!(socket = %slot.info, "closed a socket that the predecessor had bound and no route here serves");
            }
        }
    }

    /// Adds the sockets of a predecessor, but for those of a name that a launcher has passed.
    pub(crate) fn admit(&self, sockets: impl IntoIterator<Item = (String, OwnedFd, Provenance)>) {
        let mut slots = self.lock();
        let passed: Vec<_> =
            slots.iter().filter(|slot| slot.info.is_passed()).map(|slot| slot.info.shared_name()).collect();
        for (name, fd, provenance) in sockets {
            if passed.iter().any(|passed| **passed == *name) {
                log::debug!(name, "the predecessor has handed over a socket of a name that was passed, which stays");
                continue;
            }
            let mut slot = Slot::passed(&name, fd);
            slot.set_provenance(&provenance);
            slots.push(slot);
        }
    }

    /// The path at which the next process finds this one.
    pub(crate) fn handoff_path(&self) -> Option<PathBuf> {
        self.handoff().path.clone()
    }

    pub(crate) fn set_handoff_path(&self, path: &Path) {
        self.handoff().path = Some(path.to_owned());
    }

    /// The users beside its own that this process hands over to, and takes over from.
    pub(crate) fn handoff_peers(&self) -> Peers {
        self.handoff().peers.clone()
    }

    pub(crate) fn add_handoff_peers(&self, users: &[u32]) {
        self.handoff().peers.extend(users);
    }

    /// Whether this process is the first at that path, and has its socket there.
    pub(crate) fn has_bound_path(&self) -> bool {
        self.handoff().bound.is_some()
    }

    pub(crate) fn set_bound_path(&self, bound: BoundSocketPath) {
        self.handoff().bound = Some(bound);
    }

    /// The socket at that path, for the one that listens to it.
    pub(crate) fn take_bound_path(&self) -> Option<BoundSocketPath> {
        self.handoff().bound.take()
    }
}
