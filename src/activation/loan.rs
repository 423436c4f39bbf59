//! Sockets that are taken, and come back to their set if the runtime does not take them.
//!
//! Taking all sockets of a name can fail at the third one. Then the first two must be free again, with the paths that
//! they own, as an error takes nothing. So a loan registers duplicates, and a drop puts everything back that was not
//! kept.

use std::{io, os::fd::OwnedFd, sync::Arc};

use super::slot::Slot;
use crate::{
    error::{Error, Kind},
    listener::{ActivatedListener, ListenerHandle, RawEndpoint},
    sys::path::CreatedPath,
};

/// Sockets on their way to the runtime. Dropped, by an error or a panic on the way, each is in its slot again.
pub(super) struct Loan<'a> {
    sockets: Vec<Lent<'a>>,
}

struct Lent<'a> {
    slot: &'a mut Slot,
    /// A duplicate: what is registered is closed where that fails.
    duplicate: OwnedFd,
    /// Has the path that goes when the listener does.
    handle: Option<Arc<ListenerHandle>>,
    /// The path of a socket that has no listener.
    path: Option<CreatedPath>,
}

impl<'a> Loan<'a> {
    /// An error if a duplicate cannot be made; nothing is taken then.
    pub(super) fn of(slots: Vec<&'a mut Slot>) -> Result<Self, Error> {
        let lent = slots.into_iter().filter_map(|slot| {
            Some(match slot.duplicate()? {
                Ok(duplicate) => Ok(Lent { slot, duplicate, handle: None, path: None }),
                Err(source) => {
                    Err(Kind::Socket { name: slot.info.name().to_owned(), doing: "duplicate", source }.into())
                }
            })
        });
        Ok(Self { sockets: lent.collect::<Result<_, Error>>()? })
    }

    /// One listener over all.
    pub(super) fn listener(mut self, name: Arc<str>) -> Result<ActivatedListener, Error> {
        let endpoints = self.sockets.iter_mut().filter_map(Lent::endpoint).collect();
        let listener = ActivatedListener::register(name, endpoints)?;
        self.keep();
        Ok(listener)
    }

    /// A listener for each.
    pub(super) fn listeners(mut self, name: &Arc<str>) -> Result<Vec<ActivatedListener>, Error> {
        let register =
            |lent: &mut Lent<'_>| ActivatedListener::register(Arc::clone(name), lent.endpoint().into_iter().collect());
        let listeners = self.sockets.iter_mut().map(register).collect::<Result<_, _>>()?;
        self.keep();
        Ok(listeners)
    }

    /// A datagram socket of the runtime for each.
    pub(super) fn datagrams<T>(mut self, register: impl Fn(OwnedFd) -> io::Result<T>) -> Result<Vec<T>, Error> {
        let mut registered = Vec::new();
        for Lent { slot, path, .. } in &mut self.sockets {
            let Some((created, fd)) = slot.take_parts() else { continue };
            *path = created;
            let socket = register(fd).map_err(|source| {
                let name = slot.info.name().to_owned();
                Error::from(Kind::Socket { name, doing: "register", source })
            })?;
            registered.push(socket);
        }
        self.sockets.iter_mut().filter_map(|lent| lent.path.take()).for_each(CreatedPath::keep);
        self.keep();
        Ok(registered)
    }

    /// They are the runtime's.
    fn keep(mut self) {
        self.sockets.clear();
    }
}

impl Lent<'_> {
    fn endpoint(&mut self) -> Option<RawEndpoint> {
        let endpoint = self.slot.take_endpoint()?;
        self.handle = Some(Arc::clone(&endpoint.handle));
        Some(endpoint)
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        for Lent { slot, duplicate, handle, path } in self.sockets.drain(..) {
            let path = path.or_else(|| handle.and_then(|handle| handle.path().take()));
            slot.give_back(duplicate, path);
        }
    }
}
