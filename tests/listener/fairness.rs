//! Several sockets under one name take turns.

use std::{
    net::TcpStream,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    time::Duration,
};

use axum_activation::{ActivatedListener, ActivatedListeners, ListenAddr, PeerAddr};
use tempfile::tempdir;
use tokio::time::timeout;

use crate::support::sockets;

/// A connection that waits in the queue of a listening socket.
type Queued = OwnedFd;

fn queue(addr: &ListenAddr, count: usize) -> Vec<Queued> {
    (0..count).map(|_| queue_one(addr)).collect()
}

fn queue_one(addr: &ListenAddr) -> Queued {
    match addr {
        ListenAddr::Tcp(addr) => TcpStream::connect(addr).unwrap().into(),
        ListenAddr::Unix(path) => UnixStream::connect(path).unwrap().into(),
        other => panic!("no test connects to {other}"),
    }
}

/// One listener over sockets of both kinds, in the given order.
fn listener(sockets: Vec<OwnedFd>) -> ActivatedListener {
    let set = sockets.into_iter().fold(ActivatedListeners::builder(), |set, fd| set.socket("http", fd));
    set.build().unwrap().one("http").unwrap()
}

/// The kinds of the next `count` connections: `4`, `6` or `u`.
async fn accept(listener: &mut ActivatedListener, count: usize) -> String {
    let mut kinds = String::new();
    for _ in 0..count {
        let accepted = timeout(Duration::from_secs(20), listener.accept()).await;
        kinds.push(match accepted.unwrap_or_else(|_| panic!("nothing came after {kinds}")).1 {
            PeerAddr::Tcp(addr) if addr.is_ipv4() => '4',
            PeerAddr::Tcp(_) => '6',
            PeerAddr::Unix(_) => 'u',
            other => panic!("unexpected {other}"),
        });
    }
    kinds
}

fn v4() -> OwnedFd {
    sockets::tcp().into()
}

fn v6() -> OwnedFd {
    std::net::TcpListener::bind("[::1]:0").unwrap().into()
}

fn unix(path: &Path) -> OwnedFd {
    UnixListener::bind(path).unwrap().into()
}

#[tokio::test]
async fn a_flood_on_one_socket_does_not_starve_another() {
    for sockets in [vec![v4(), v6()], vec![v6(), v4()]] {
        let mut listener = listener(sockets);
        let addrs = listener.local_addrs();
        let _flood = queue(&addrs[0], 50);
        let _single = queue(&addrs[1], 1);
        let kinds = accept(&mut listener, 2).await;
        assert!(kinds == "46" || kinds == "64", "{kinds}");
        accept(&mut listener, 49).await;
    }
}

#[tokio::test]
async fn a_flood_that_is_under_way_lets_a_newcomer_in_at_once() {
    let mut listener = listener(vec![v4(), v6()]);
    let addrs = listener.local_addrs();
    let _flood = queue(&addrs[0], 50);
    assert_eq!(accept(&mut listener, 20).await, "4".repeat(20));
    let _single = queue(&addrs[1], 1);
    // The runtime hears of the newcomer when it next asks the kernel.
    tokio::task::yield_now().await;
    let kinds = accept(&mut listener, 30).await;
    let waited = kinds.find('6').unwrap();
    assert!(waited < 2, "{waited} others came first: {kinds}");
}

#[tokio::test]
async fn two_floods_take_turns() {
    let dir = tempdir().unwrap();
    let mut listener = listener(vec![v4(), unix(&dir.path().join("app.sock"))]);
    let addrs = listener.local_addrs();
    let _floods = (queue(&addrs[0], 20), queue(&addrs[1], 20));
    let kinds = accept(&mut listener, 40).await;
    assert!(kinds == "4u".repeat(20) || kinds == "u4".repeat(20), "{kinds}");
}

#[tokio::test]
async fn every_socket_of_a_name_is_served() {
    let dir = tempdir().unwrap();
    let mut listener = listener(vec![v4(), v6(), unix(&dir.path().join("app.sock"))]);
    for (addr, kind) in listener.local_addrs().iter().zip(["4", "6", "u"]) {
        let _client = queue_one(addr);
        assert_eq!(accept(&mut listener, 1).await, kind);
    }
}

#[tokio::test]
async fn a_dropped_accept_has_taken_no_connection() {
    let mut listener = listener(vec![v4(), v6()]);
    let addrs = listener.local_addrs();
    drop(timeout(Duration::ZERO, listener.accept()).await);
    let _queued = (queue(&addrs[0], 5), queue(&addrs[1], 5));
    for _ in 0..20 {
        drop(Box::pin(listener.accept()));
    }
    assert_eq!(accept(&mut listener, 10).await.len(), 10);
}
