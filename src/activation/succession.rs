//! A set of sockets on its way to the next process, and in it.

use std::{
    any::Any,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use super::{ActivatedListeners, environment::check_name};
use crate::sys::path::CreatedPath;

/// The name of the descriptor that a predecessor is spoken to through, among those that are passed.
pub(crate) const CONTROL_NAME: &str = "axum-activation.handoff";

/// A socket as it goes to a successor.
#[derive(Debug)]
pub(crate) struct Heirloom {
    pub(crate) name: Arc<str>,
    pub(crate) fd: OwnedFd,
    pub(crate) origin: Origin,
}

/// Where a socket comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// This process or one before it bound it, so nobody else holds it.
    pub(crate) bound: bool,
    /// The path that was created for it, its device and its inode.
    pub(crate) created: Option<(PathBuf, u64, u64)>,
}

impl Origin {
    pub(super) fn created_path(&self) -> Option<CreatedPath> {
        let (path, device, inode) = self.created.clone()?;
        Some(CreatedPath::of_another(path, device, inode))
    }
}

impl Heirloom {
    /// Its name as `LISTEN_FDNAMES` can carry it; a socket that was bound by its address alone has none.
    pub(crate) fn variable_name(&self) -> &str {
        if check_name(&self.name).is_ok() { &self.name } else { "" }
    }
}

impl ActivatedListeners {
    /// Duplicates of all that a successor is to have, in order: what was passed, and what listens.
    pub(crate) fn for_successor(&self) -> io::Result<Vec<Heirloom>> {
        self.lock().iter().filter_map(|slot| slot.heirloom().transpose()).collect()
    }

    /// A successor has the sockets too, or has not: who is left alone with a path removes it in the end.
    pub(crate) fn set_passed_on(&self, passed_on: bool) {
        self.lock().iter().for_each(|slot| slot.set_passed_on(passed_on));
    }

    /// Notes where the sockets come from that a predecessor has passed, in its order.
    pub(crate) fn note_origins(&self, origins: &[Origin]) {
        let mut slots = self.lock();
        slots.iter_mut().filter(|slot| slot.info.is_passed()).zip(origins).for_each(|(slot, origin)| slot.note(origin));
    }

    /// Closes what a predecessor had bound and this process does not want: nobody would ever accept from it.
    pub(crate) fn close_unwanted(&self, wanted: impl Fn(&str) -> bool) {
        for slot in self.lock().iter_mut().filter(|slot| !wanted(slot.info.name())) {
            if slot.close_inherited() {
                tracing::info!(socket = %slot.info, "closed a socket that the predecessor had bound and nobody here serves");
            }
        }
    }

    /// What the predecessor is spoken to through, once.
    pub(crate) fn take_control(&self) -> Option<Box<dyn Any + Send>> {
        self.set.control.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn set_control(&self, control: Box<dyn Any + Send>) {
        *self.set.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control);
    }
}
