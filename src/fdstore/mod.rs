//! Listeners and idle connections in the service manager's fd store, so that they outlive a restart: mechanism only.
//!
//! What is stored, and under which name:
//!
//! | name | what | from when to when |
//! | --- | --- | --- |
//! | `aa.l/NAME` | a listener that the service bound itself (see `activation::kept`) | from the first process that serves it to the last |
//! | `aa.c` | the journal: a memfd with what belongs to each connection | from the first connection of a drain until the next process serves |
//! | `aa.c` | a connection | likewise |
//!
//! Invariants:
//!
//! 1. A connection is sent to the manager only after its record is in the journal, and the journal is sent first: whatever ends
//!    this process, what the manager has can be served.
//! 2. Nothing is read from a stored connection before its record is void. So no process ever replays what another has replayed,
//!    even where the manager passes a connection once more.
//! 3. Only one process at a time writes or voids: the manager starts the next one when this one is gone.

mod journal;
mod store;
mod stored;

pub(crate) use self::{
    store::{Store, forget_listeners},
    stored::StoredConnections,
};
