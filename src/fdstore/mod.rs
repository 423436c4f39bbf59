//! Listeners and idle connections in the service manager's fd store, so that they outlive a restart: mechanism only.
//!
//! systemd keeps descriptors that a service sends it (`FDSTORE=1` of `sd_notify(3)`), and passes them to the next
//! process of the unit like sockets. A descriptor alone is not a connection: bytes that were read ahead, the peer and
//! the age belong to it. They are in a journal.
//!
//! What is stored, and under which name:
//!
//! | name | what | from when to when |
//! | --- | --- | --- |
//! | `aa.l/NAME` | a listener that the service bound itself | from the first process that serves it to the last |
//! | `aa.c` | the journal: a memfd with what belongs to each connection | from the first connection of a drain until the next process serves |
//! | `aa.c` | a second journal: what belongs to each connection that is no idle one of HTTP/1 | likewise, if there is one |
//! | `aa.c` | a connection | likewise |
//!
//! Invariants:
//!
//! 1. A connection is sent to the manager only after its record is in its journal, and the journal is sent first:
//!    whatever ends this process, what the manager has can be served.
//! 2. Nothing is read from a stored connection before its record is void. So no process ever replays what another has
//!    replayed, even where the manager passes a connection once more.
//! 3. Only one process at a time writes or voids: the manager starts the next one when this one is gone.
//!
//! Crashes, and what becomes of a connection:
//!
//! | the process ends | the connection |
//! | --- | --- |
//! | before the record is written | is closed with the process |
//! | between the record and `FDSTORE=1` | is closed with the process; the record matches no socket and is skipped |
//! | after `FDSTORE=1` | is served by the next process |
//! | in the next process, before the record is void | is served by the process after that |
//! | in the next process, after the record is void | is closed: what was read ahead may have been answered |

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod journal;
mod store;
mod stored;

pub(crate) use self::{
    store::{Store, forget_listeners},
    stored::StoredConnections,
};
