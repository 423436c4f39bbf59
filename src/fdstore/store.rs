//! From this process into the store.
//!
//! A connection goes through three places: the queue, the message to the manager, and `held` until a barrier says that
//! the manager has it. Its reservation (the permit of `max_connections`, its place among the connections that the drain
//! waits for) is dropped only then, so that a drain does not end while messages wait.
//!
//! The queue is not bounded by itself. `room` bounds it: the places of the store that are left, and what fits into
//! `LISTEN_FDNAMES`.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::journal::{Format, Journal};
use crate::{
    activation::{ActivatedListeners, ActivatedSocket, CONNECTIONS_NAME},
    drain::UnmovedReason,
    idle_connection::IdleConnection,
    log,
    notify::Notifier,
};

/// The longest environment string that the kernel passes on: `MAX_ARG_STRLEN` of `execve(2)`.
const LONGEST_VARIABLE: usize = 128 * 1024;

/// What is left of it to whatever else the manager passes, and to the variable's own name.
const RESERVED: usize = 4 * 1024;

/// How many connections the manager is sent before it is asked whether it has them: it compares each with all that it has.
const WINDOW: usize = 32;

/// How long the manager may take for that: the drain is over before.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A store with room for so much.
#[derive(Debug)]
pub(crate) struct Store {
    notifier: Notifier,
    max: usize,
    queue: Mutex<Queue>,
    /// Notified when a connection waits.
    waits: Notify,
}

/// What belongs to the connections that are kept.
#[derive(Debug, Default)]
struct Journals {
    http1: Option<Journal>,
    carried: Option<Journal>,
}

#[derive(Debug, Default)]
struct Queue {
    /// How many connections more are taken.
    room: usize,
    /// The second journal has its place.
    has_carried: bool,
    waiting: VecDeque<IdleConnection>,
}

impl Store {
    /// The store of the manager that `notifier` speaks to, with room for `max`; `None` where there is none.
    pub(crate) fn new(notifier: &Notifier, max: usize) -> Option<Self> {
        let exists = notifier.is_active() && max > 0;
        exists.then(|| Self { notifier: notifier.clone(), max, queue: Mutex::default(), waits: Notify::new() })
    }

    /// Keeps the listeners that this process or one before it bound, from now on; what is left of the room is for connections.
    pub(crate) fn keep_listeners(&self, activated: &ActivatedListeners) -> io::Result<()> {
        let names = keep_listeners(&self.notifier, activated, self.max)?;
        let others = activated.iter().filter(ActivatedSocket::is_passed).map(|socket| socket.name().len());
        let text = names.iter().copied().chain(others).map(|length| length + 1).sum::<usize>();
        // The journal is one of them.
        self.queue().room = (self.max - names.len()).min(room_for_names(text)).saturating_sub(1);
        Ok(())
    }

    /// Keeps the listeners for a program that knows nothing of this one, under the names that it is passed them by.
    pub(crate) fn keep_listeners_plainly(&self, activated: &ActivatedListeners) -> io::Result<()> {
        activated.store_listeners_plainly(
            |name| self.notifier.fd_store_remove(name),
            |name, fd| self.notifier.fd_store_unpolled(name, fd),
        )
    }

    /// Keeps a connection for the next process, as soon as [`run`](Self::run) has its turn for it. An error gives it back: the
    /// store is full.
    pub(crate) fn keep(&self, connection: IdleConnection) -> Result<(), IdleConnection> {
        let mut queue = self.queue();
        // The first connection that belongs into the second journal needs a place for that, too.
        let is_carried = Format::of(&connection) == Format::Carried;
        let places = if is_carried && !queue.has_carried { 2 } else { 1 };
        let Some(room) = queue.room.checked_sub(places) else {
            return Err(connection.unmoved(UnmovedReason::NoRoom));
        };
        queue.room = room;
        queue.has_carried |= is_carried;
        queue.waiting.push_back(connection);
        drop(queue);
        self.waits.notify_one();
        Ok(())
    }

    /// Sends the manager what is to be kept, as fast as it takes that, until `aborted` resolves or it takes nothing more. What it has
    /// not got then is returned, and from then on the store is full. A connection that cannot be kept is given to `stays`, and holds no
    /// other up.
    pub(crate) async fn run(
        &self,
        aborted: impl Future<Output = ()>,
        stays: impl Fn(IdleConnection),
    ) -> Vec<IdleConnection> {
        let error = tokio::select! {
            error = self.send(stays) => error,
            () = aborted => io::Error::other("the drain is over"),
        };
        let mut queue = self.queue();
        queue.room = 0;
        let left: Vec<_> = queue.waiting.drain(..).collect();
        log::warn!(%error, connections = left.len(), "the service manager keeps no more connections");
        left
    }

    /// Returns only with an error. A connection is let go of when the manager is known to have it.
    async fn send(&self, stays: impl Fn(IdleConnection)) -> io::Error {
        let mut journals = Journals::default();
        loop {
            if let Err(error) = self.send_some(&mut journals, &stays).await {
                return error;
            }
        }
    }

    async fn send_some(&self, journals: &mut Journals, stays: &impl Fn(IdleConnection)) -> io::Result<()> {
        self.waits.notified().await;
        loop {
            let mut held = Vec::new();
            while held.len() < WINDOW {
                let Some(format) = self.queue().waiting.front().map(Format::of) else { break };
                let journal = self.journal(journals, format)?;
                let Some(connection) = self.queue().waiting.pop_front() else { break };
                if let Err(error) = journal.append(&connection) {
                    log::warn!(%error, listener = &*connection.listener, "a connection cannot be kept, it ends here");
                    self.queue().room += 1;
                    stays(connection);
                    continue;
                }
                self.notifier.fd_store(CONNECTIONS_NAME, connection.stream);
                held.push(connection.reservation);
            }
            if held.is_empty() {
                return Ok(());
            }
            self.notifier.barrier(FOREVER).await.map_err(io::Error::other)?;
        }
    }

    /// The journal of that format, which the manager has before any connection that belongs into it.
    fn journal<'a>(&self, journals: &'a mut Journals, format: Format) -> io::Result<&'a mut Journal> {
        let journal = match format {
            Format::Http1 => &mut journals.http1,
            Format::Carried => &mut journals.carried,
        };
        match journal {
            Some(journal) => Ok(journal),
            none => {
                let journal = Journal::create(format)?;
                self.notifier.fd_store_unpolled(CONNECTIONS_NAME, journal.duplicate()?);
                Ok(none.insert(journal))
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the listeners from the store, if there is one: only this process has them then.
pub(crate) fn forget_listeners(notifier: &Notifier, activated: &ActivatedListeners) -> io::Result<()> {
    if notifier.is_active() { keep_listeners(notifier, activated, 0).map(drop) } else { Ok(()) }
}

fn keep_listeners(notifier: &Notifier, activated: &ActivatedListeners, most: usize) -> io::Result<Vec<usize>> {
    activated.store_listeners(
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
    use std::{
        fs::File,
        os::{
            fd::OwnedFd,
            unix::net::{UnixDatagram, UnixStream},
        },
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use tokio::sync::oneshot;

    use super::*;
    use crate::idle_connection::{Protocol, Times};

    fn connection(stream: impl Into<OwnedFd>) -> IdleConnection {
        let (listener, peer) = ("http".into(), "127.0.0.1:1".parse().unwrap());
        let times = Times::now();
        let read_ahead = "GET".into();
        IdleConnection {
            listener,
            stream: stream.into(),
            peer,
            read_ahead,
            protocol: Protocol::Http1,
            times,
            reservation: None,
        }
    }

    /// A manager that keeps all, up to so many connections; then it says so.
    fn manager(connections: usize) -> (tempfile::TempDir, Notifier, oneshot::Receiver<()>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let (socket, (done, is_done)) = (UnixDatagram::bind(&path).unwrap(), oneshot::channel());
        thread::spawn(move || {
            let (mut left, mut space) = (connections, [0; 1000]);
            while left > 0 {
                let length = socket.recv(&mut space).unwrap();
                let text = String::from_utf8_lossy(&space[..length]).into_owned();
                left -= usize::from(text.contains("FDSTORE=1") && !text.contains("FDPOLL=0"));
            }
            let _ = done.send(());
            while socket.recv(&mut space).is_ok() {}
        });
        (folder, Notifier::to(path).unwrap(), is_done)
    }

    #[tokio::test]
    async fn a_connection_that_cannot_be_noted_stays_alone() {
        let (_folder, notifier, has_all) = manager(11);
        let store = Store::new(&notifier, 100).unwrap();
        store.queue().room = 12;
        let mut peers = Vec::new();
        for i in 0..12 {
            let kept = if i == 3 {
                // Nothing that has a cookie.
                store.keep(connection(File::open("/dev/null").unwrap()))
            } else {
                let (stream, peer) = UnixStream::pair().unwrap();
                peers.push(peer);
                store.keep(connection(stream))
            };
            assert!(kept.is_ok());
        }
        let stayed = AtomicUsize::new(0);
        let until = async { has_all.await.unwrap() };
        let left = store.run(until, |_| _ = stayed.fetch_add(1, Ordering::Relaxed)).await;
        assert_eq!((stayed.into_inner(), left.len()), (1, 0));
    }

    #[test]
    fn the_names_of_all_connections_fit_into_one_variable() {
        let text = (CONNECTIONS_NAME.len() + 1) * room_for_names(0) + "LISTEN_FDNAMES=".len() + 1;
        assert!(text < LONGEST_VARIABLE - 4000 && room_for_names(0) > 20_000, "{text}");
        assert_eq!(room_for_names(LONGEST_VARIABLE), 0);
        assert_eq!(room_for_names(1000) + 200, room_for_names(0));
    }
}
