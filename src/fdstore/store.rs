//! From this process into the store.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::journal::Journal;
use crate::{
    activation::{ActivatedListeners, ActivatedSocket, CONNECTIONS_NAME},
    notify::Notifier,
    transit::IdleConnection,
};

/// The longest environment string that the kernel passes on: `MAX_ARG_STRLEN` of `execve(2)`.
const LONGEST_VARIABLE: usize = 128 * 1024;

/// What is left of it to whatever else the manager passes, and to the variable's own name.
const RESERVED: usize = 4 * 1024;

/// How long the manager may take to say that it has everything.
const BARRIER_LIMIT: Duration = Duration::from_secs(5);

/// A store with room for so much.
#[derive(Debug)]
pub(crate) struct Store {
    notifier: Notifier,
    max: usize,
    /// How many connections are taken before it is full.
    room: AtomicUsize,
    writing: Mutex<Writing>,
}

#[derive(Debug, Default)]
struct Writing {
    journal: Option<Journal>,
    connections: usize,
}

impl Store {
    /// The store of the manager that `notifier` speaks to, with room for `max`; `None` where there is none.
    pub(crate) fn new(notifier: &Notifier, max: usize) -> Option<Self> {
        let exists = notifier.is_active() && max > 0;
        exists.then(|| Self { notifier: notifier.clone(), max, room: AtomicUsize::new(0), writing: Mutex::default() })
    }

    /// Keeps the listeners that this process or one before it bound, from now on; what is left of the room is for connections.
    pub(crate) fn keep_listeners(&self, activated: &ActivatedListeners) -> io::Result<()> {
        let names = keep_listeners(&self.notifier, activated, self.max)?;
        let others = activated.iter().filter(ActivatedSocket::is_passed).map(|socket| socket.name().len() + 1);
        let text = names.iter().map(|length| length + 1).chain(others).sum::<usize>();
        // The journal is one of them.
        let room = (self.max - names.len()).min(room_for_names(text)).saturating_sub(1);
        self.room.store(room, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps a connection for the next process. An error gives it back: the store is full, or it cannot be noted.
    pub(crate) fn keep(&self, connection: IdleConnection) -> Result<(), IdleConnection> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if writing.connections >= self.room.load(Ordering::Relaxed) {
            tracing::info!(connections = writing.connections, "the fd store is full, the other connections end here");
            return Err(connection);
        }
        if let Err(error) = writing.note(&connection, &self.notifier) {
            tracing::warn!(%error, "a connection cannot be kept, it ends here");
            return Err(connection);
        }
        writing.connections += 1;
        self.notifier.fd_store(CONNECTIONS_NAME, connection.stream);
        Ok(())
    }

    /// Resolves when the manager has everything, or takes too long for it.
    pub(crate) async fn settle(&self) {
        if let Err(error) = self.notifier.barrier(BARRIER_LIMIT).await {
            tracing::warn!(?error, "the service manager does not say that it has what is to be kept");
        }
    }
}

impl Writing {
    fn note(&mut self, connection: &IdleConnection, notifier: &Notifier) -> io::Result<()> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            none => {
                let journal = Journal::create()?;
                notifier.fd_store_unpolled(CONNECTIONS_NAME, journal.duplicate()?);
                none.insert(journal)
            }
        };
        journal.append(connection)
    }
}

/// Keeps no listeners any more, where somebody listens to that: they are this process's alone then.
pub(crate) fn forget_listeners(notifier: &Notifier, activated: &ActivatedListeners) -> io::Result<()> {
    if notifier.is_active() { keep_listeners(notifier, activated, 0).map(drop) } else { Ok(()) }
}

fn keep_listeners(notifier: &Notifier, activated: &ActivatedListeners, most: usize) -> io::Result<Vec<usize>> {
    activated.keep_listeners(
        most,
        |name| notifier.fd_store_remove(name),
        |name, fd| notifier.fd_store_unpolled(name, fd),
    )
}

/// How many connections fit into `LISTEN_FDNAMES` beside names of so many bytes.
fn room_for_names(others: usize) -> usize {
    LONGEST_VARIABLE.saturating_sub(RESERVED + others) / (CONNECTIONS_NAME.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_all_connections_fit_into_one_variable() {
        let text = (CONNECTIONS_NAME.len() + 1) * room_for_names(0) + "LISTEN_FDNAMES=".len() + 1;
        assert!(text < LONGEST_VARIABLE - 4000 && room_for_names(0) > 20_000, "{text}");
        assert_eq!(room_for_names(LONGEST_VARIABLE), 0);
        assert_eq!(room_for_names(1000) + 200, room_for_names(0));
    }
}
