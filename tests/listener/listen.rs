//! `listen`: by name, by address, or fresh.

use std::{
    net::TcpStream,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
};

use axum_activation::{ActivatedListener, ActivatedListeners, ListenAddr, ListenOptions};
use tempfile::tempdir;

use crate::support::{seen::failure, sockets};

fn empty() -> ActivatedListeners {
    ActivatedListeners::builder().build().unwrap()
}

fn parsed(text: &str) -> ListenAddr {
    text.parse().unwrap()
}

fn tcp(addr: &ListenAddr) -> std::net::SocketAddr {
    match addr {
        ListenAddr::Tcp(addr) => *addr,
        other => panic!("{other} is not TCP"),
    }
}

async fn assert_accepts(listener: &mut ActivatedListener) {
    let _client = TcpStream::connect(tcp(&listener.local_addrs()[0])).unwrap();
    listener.accept().await;
}

#[tokio::test]
async fn a_name_gives_all_of_its_sockets() {
    let set =
        ActivatedListeners::builder().socket("http", sockets::tcp()).socket("http", sockets::tcp()).build().unwrap();
    let listener = set.listen(&parsed("&http")).unwrap();
    assert_eq!(listener.local_addrs().len(), 2);
    assert_eq!(failure(set.listen(&parsed("&http"))).is, ["already_taken"]);
    assert_eq!(failure(set.listen(&parsed("&admin"))).is, ["unknown_name"]);
}

#[tokio::test]
async fn an_address_takes_one_socket_and_leaves_its_neighbours() {
    let sockets = [sockets::tcp(), sockets::tcp()];
    let addrs = sockets.each_ref().map(sockets::addr);
    let set = sockets.into_iter().fold(ActivatedListeners::builder(), |set, socket| set.socket("http", socket));
    let set = set.build().unwrap();
    let mut second = set.listen(&addrs[1]).unwrap();
    assert_eq!((second.name(), second.local_addrs()), ("http", vec![addrs[1].clone()]));
    assert_accepts(&mut second).await;
    assert_eq!(set.one("http").unwrap().local_addrs(), [addrs[0].clone()]);
}

#[tokio::test]
async fn a_fresh_socket_joins_the_set_under_its_address() {
    let set = empty();
    let mut listener = set.listen(&parsed("127.0.0.1:0")).unwrap();
    assert_accepts(&mut listener).await;
    assert_eq!((listener.name(), set.names()), ("127.0.0.1:0", vec!["127.0.0.1:0".to_owned()]));
    let bound = set.iter().next().unwrap();
    assert!(bound.is_taken() && !bound.is_passed());
    assert_eq!(bound.addr(), listener.local_addrs().first());
    assert_eq!(failure(set.listen(&listener.local_addrs()[0])).is, ["address_in_use"]);
}

#[tokio::test]
async fn an_address_is_free_again_once_its_listener_is_gone() {
    let dir = tempdir().unwrap();
    let addr = ListenAddr::Unix(dir.path().join("app.sock"));
    let set = empty();
    drop(set.listen(&addr).unwrap());
    assert_eq!(set.listen(&addr).unwrap().local_addrs(), [addr]);
}

#[tokio::test]
async fn a_host_name_is_looked_up() {
    let mut listener = empty().listen(&parsed("localhost:0")).unwrap();
    assert!(tcp(&listener.local_addrs()[0]).ip().is_loopback());
    assert_accepts(&mut listener).await;
}

#[tokio::test]
async fn a_bare_port_takes_both_families() {
    let mut listener = empty().listen(&parsed(":0")).unwrap();
    let port = tcp(&listener.local_addrs()[0]).port();
    for host in ["127.0.0.1", "::1"] {
        let _client = TcpStream::connect((host, port)).unwrap();
        listener.accept().await;
    }
}

/// Either family alone would leave half of the clients to another process.
#[tokio::test]
async fn a_bare_port_in_use_for_one_family_is_not_taken_for_the_other() {
    let v4 = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let v6 = empty().listen_with(&parsed("[::]:0"), &ListenOptions::new().only_v6(true)).unwrap();
    for port in [v4.local_addr().unwrap().port(), tcp(&v6.local_addrs()[0]).port()] {
        assert_eq!(failure(empty().listen(&ListenAddr::Port(port))).is, ["address_in_use"]);
    }
}

#[tokio::test]
async fn an_ipv6_socket_can_leave_ipv4_alone() {
    let listener = empty().listen_with(&parsed("[::]:0"), &ListenOptions::new().only_v6(true)).unwrap();
    let port = tcp(&listener.local_addrs()[0]).port();
    assert!(TcpStream::connect(("::1", port)).is_ok());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn options_start_from_the_defaults() {
    assert_eq!(ListenOptions::default(), ListenOptions::new());
}

#[tokio::test]
async fn options_go_to_a_fresh_socket() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener =
        empty().listen_with(&ListenAddr::Unix(path.clone()), &ListenOptions::new().unix_mode(0o600)).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn options_do_not_touch_a_passed_socket() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let mode = path.metadata().unwrap().permissions().mode();
    let set = ActivatedListeners::builder().socket("http", socket).build().unwrap();
    let listener = set.listen_with(&ListenAddr::Unix(path.clone()), &ListenOptions::new().unix_mode(0)).unwrap();
    assert_eq!((listener.name(), path.metadata().unwrap().permissions().mode()), ("http", mode));
}

#[tokio::test]
async fn another_path_to_the_same_socket_is_the_same_address() {
    let dir = tempdir().unwrap();
    let socket = UnixListener::bind(dir.path().join("app.sock")).unwrap();
    let set = ActivatedListeners::builder().socket("http", socket).build().unwrap();
    let listener = set.listen(&ListenAddr::Unix(dir.path().join("./app.sock"))).unwrap();
    assert_eq!(listener.name(), "http");
}

#[tokio::test]
async fn an_abstract_name_is_listened_on() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("axum-activation-{}-listen", std::process::id());
    let set = empty();
    let mut listener = set.listen(&parsed(&format!("@{name}"))).unwrap();
    let addr = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _client = UnixStream::connect_addr(&addr).unwrap();
    listener.accept().await;
    assert_eq!(listener.local_addrs(), [parsed(&format!("@{name}"))]);
    assert_eq!(axum::serve::Listener::local_addr(&listener).unwrap().to_string(), format!("@{name}"));
}

#[tokio::test]
async fn a_datagram_socket_of_that_address_is_not_taken_for_a_listener() {
    let datagrams = sockets::udp();
    let addr = sockets::addr(&datagrams);
    let set = ActivatedListeners::builder().socket("dns", datagrams).build().unwrap();
    // Another process may have the TCP port of that number.
    let fresh =
        set.listen(&addr).map_or_else(|error| error.is_address_in_use(), |fresh| fresh.name() == addr.to_string());
    assert!(fresh);
    assert_eq!(set.udp("dns").unwrap().len(), 1);
}
