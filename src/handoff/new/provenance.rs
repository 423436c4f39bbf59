//! What a new process believes of the listeners that the old one describes.

use crate::{activation::Provenance, log, sys::path::may_remove, wire::protocol::ListenerRecord};

/// What the old process, which `user` runs, says of a listener. This process removes the path in the end, so it believes only a path that
/// the old process could have removed itself. Whether the socket is bound there is checked by the set.
pub(crate) fn provenance(record: &ListenerRecord, user: u32) -> Provenance {
    let created = record.created.as_ref().filter(|created| {
        let may_remove = may_remove(user, &created.path);
        if !may_remove {
            log::warn!(
                path = %created.path.display(), user, listener = record.name,
                "the predecessor names a path that it may not remove itself, so it stays"
            );
        }
        may_remove
    });
    let created = created.map(|created| (created.path.clone(), created.device, created.inode));
    Provenance { bound: record.bound, created }
}
