//! What the manager kept of the process before: from the store into this one.

use std::{collections::HashMap, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::journal::{Record, StoredJournal};
use crate::{
    activation::{ActivatedListeners, CONNECTIONS_NAME},
    blocking::on_thread_or_here,
    idle_connection::IdleConnection,
    log,
    notify::Notifier,
    sys::socket,
};

/// How long systemd may take to say that it has none of them any more. If it does not, it has none either: it handles messages in
/// order, and starts no other process before that.
const BARRIER_LIMIT: Duration = Duration::from_secs(5);

/// Connections that were stored, and what is known of them. Dropped, they stay in the store for the next process.
#[derive(Debug)]
pub(crate) struct StoredConnections {
    fds: Vec<OwnedFd>,
}

impl StoredConnections {
    /// What came with `activated`; `None` if nothing did.
    pub(crate) fn of(activated: &ActivatedListeners) -> Option<Self> {
        let fds = activated.take_stored_connections();
        (!fds.is_empty()).then_some(Self { fds })
    }

    /// Takes them out of the store. Those of which nothing is known, and those whose client is gone, are closed.
    pub(crate) async fn take(self, notifier: &Notifier) -> Vec<IdleConnection> {
        let matched = on_thread_or_here(|| matched(self.fds)).await;
        notifier.fd_store_remove(CONNECTIONS_NAME);
        if let Err(error) = notifier.barrier(BARRIER_LIMIT).await {
            log::warn!(?error, "the service manager does not say that the store is empty, going on");
        }
        matched.unwrap_or_default()
    }
}

fn matched(fds: Vec<OwnedFd>) -> Vec<IdleConnection> {
    let (mut sockets, mut records) = (Vec::new(), HashMap::new());
    for fd in fds {
        match socket::cookie(&fd) {
            Ok(cookie) => sockets.push((cookie, fd)),
            Err(_) => records.extend(recorded(fd).into_iter().map(|record| (record.cookie, record))),
        }
    }
    let (stored, mut gone) = (sockets.len(), 0);
    let mut connections = Vec::new();
    for (cookie, stream) in sockets {
        match records.remove(&cookie) {
            Some(record) if !socket::is_over(&stream) => connections.push(connection(record, stream)),
            _ => gone += 1,
        }
    }
    log::info!(stored, gone, "connections of the process before");
    connections
}

fn recorded(fd: OwnedFd) -> Vec<Record> {
    let Some(journal) = StoredJournal::open(fd) else {
        log::warn!("what is known of kept connections was written by another version");
        return Vec::new();
    };
    journal.take().unwrap_or_else(|error| {
        log::warn!(%error, "what is known of kept connections cannot be read");
        Vec::new()
    })
}

fn connection(record: Record, stream: OwnedFd) -> IdleConnection {
    let Record { listener, peer, protocol, elapsed, read_ahead, .. } = record;
    let times = elapsed.times(Instant::now());
    IdleConnection { listener: Arc::from(listener), stream, peer, read_ahead, protocol, times, reservation: None }
}
