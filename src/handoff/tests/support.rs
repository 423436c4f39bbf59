//! The two sides, and what they were given.

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::super::{
    channel::Channel,
    connection::{IdleConnection, Why},
    inbound::{Inbound, InboundHandle, Successor},
    incoming::{Joined, join_blocking},
    mover::{Mover, MoverHandle, Predecessor},
    outgoing::{Offer, Prepared, offer},
    protocol::{ListenerRecord, SectionKind},
    refusal::Refusal,
    state::Section,
};
use crate::addr::{PeerAddr, UnixPeer};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An old process that notes what happens to it.
#[derive(Debug, Default)]
pub(crate) struct Old {
    pub(crate) resumed: Vec<(u64, Why)>,
    pub(crate) trims: Vec<u32>,
}

impl Predecessor for Old {
    fn resume(&mut self, connection: IdleConnection, why: &Why) {
        self.resumed.push((inode(&connection.stream), why.clone()));
    }

    fn trim(&mut self, generations: u32) {
        self.trims.push(generations);
    }
}

/// A new process that notes what it takes.
#[derive(Debug, Default)]
pub(crate) struct New {
    pub(crate) served: Vec<IdleConnection>,
    pub(crate) finals: Vec<Section>,
    /// The reason to refuse everything.
    pub(crate) refuses: Option<String>,
}

impl Successor for New {
    fn admit(&mut self, _: &[IdleConnection]) -> Result<(), String> {
        self.refuses.clone().map_or(Ok(()), Err)
    }

    fn serve(&mut self, connections: Vec<IdleConnection>) {
        self.served.extend(connections);
    }

    async fn take_final(&mut self, section: Section) -> Result<(), String> {
        self.finals.push(section);
        self.refuses.clone().map_or(Ok(()), Err)
    }
}

/// Says what a connection is without a descriptor of its own.
pub(crate) fn inode(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

/// A connection whose other end is closed.
pub(crate) fn connection(ahead: impl Into<Bytes>) -> IdleConnection {
    IdleConnection {
        listener: "http".into(),
        stream: UnixStream::pair().unwrap().0.into(),
        peer: PeerAddr::Unix(UnixPeer::default()),
        ahead: ahead.into(),
        fresh: false,
        keep: None,
    }
}

/// Counts what is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeps(Arc<AtomicUsize>);

struct Keep(Keeps);

impl Keeps {
    pub(crate) fn on(&self, mut connection: IdleConnection) -> IdleConnection {
        self.0.fetch_add(1, Ordering::Relaxed);
        connection.keep = Some(Box::new(Keep(self.clone())));
        connection
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An offer of `listeners` sockets, attached, and of these sections.
pub(crate) fn an_offer(listeners: usize, sections: Vec<Section>) -> Offer {
    let listener = |i| {
        let record = ListenerRecord { name: format!("name{i}"), created: None, bound: i % 2 == 0 };
        (record, OwnedFd::from(UnixStream::pair().unwrap().0))
    };
    Offer { generation: 7, draining: 2, listeners: (0..listeners).map(listener).collect(), attach: true, sections }
}

pub(crate) fn section(kind: SectionKind, name: &str, data: impl Into<Bytes>) -> Section {
    Section { kind, name: name.to_owned(), version: 3, data: data.into() }
}

/// Offers and joins; the new process is not ready yet.
pub(crate) async fn meet(an_offer: Offer) -> (tokio::task::JoinHandle<Result<Prepared, Refusal>>, Joined) {
    let (channel, control) = Channel::pair().unwrap();
    let old = tokio::spawn(offer(channel, an_offer));
    let joined = spawn_blocking(|| join_blocking(control, Instant::now() + PATIENCE)).await.unwrap().unwrap();
    (old, joined)
}

/// A hand-over right after its commit.
pub(crate) async fn committed() -> ((Mover, MoverHandle), (Inbound, InboundHandle)) {
    let (old, joined) = meet(an_offer(1, Vec::new())).await;
    let new = tokio::spawn(joined.control.into_candidate().unwrap().ready());
    let old = old.await.unwrap().unwrap().commit().await.unwrap();
    (old, new.await.unwrap().unwrap())
}
