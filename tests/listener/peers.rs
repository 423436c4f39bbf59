//! `ConnectInfo<PeerAddr>`: who is at the other end, under plain axum and under `Server`.

use std::{
    net::TcpStream,
    os::unix::net::{UnixListener, UnixStream},
};

use axum::{Router, extract::ConnectInfo, routing::get};
#[cfg(feature = "server")]
use axum_activation::Server;
use axum_activation::{ActivatedListeners, ListenAddr, PeerAddr};
use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::{TempDir, tempdir};

use crate::support::{http::Client, sockets};

/// Says who asks.
async fn who(ConnectInfo(peer): ConnectInfo<PeerAddr>) -> String {
    let credentials = peer.credentials().map(|peer| (peer.pid, peer.uid, peer.gid));
    json!({ "peer": peer.to_string(), "ip": peer.ip(), "addr": peer.socket_addr(), "credentials": credentials })
        .to_string()
}

fn app() -> Router {
    Router::new().route("/", get(who))
}

/// One name on TCP and on a Unix path.
struct Sockets {
    dir: TempDir,
    set: ActivatedListeners,
}

impl Sockets {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let unix = UnixListener::bind(dir.path().join("app.sock")).unwrap();
        let set = ActivatedListeners::builder().socket("http", sockets::tcp()).socket("http", unix).build().unwrap();
        Self { dir, set }
    }

    fn tcp(&self) -> ListenAddr {
        self.set.iter().next().unwrap().addr().unwrap().clone()
    }

    /// A connection from a socket that is bound to `from`.
    fn connect_unix_from(&self, from: &SockAddr) -> Client {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(from).unwrap();
        socket.connect(&SockAddr::unix(self.dir.path().join("app.sock")).unwrap()).unwrap();
        Client::over(UnixStream::from(std::os::fd::OwnedFd::from(socket))).unwrap()
    }

    fn connect_unix(&self) -> Client {
        Client::over(UnixStream::connect(self.dir.path().join("app.sock")).unwrap()).unwrap()
    }
}

/// What the kernel says of this process at the other end of a Unix socket.
fn own_credentials() -> serde_json::Value {
    json!([std::process::id(), rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()])
}

fn own_identity() -> String {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    format!("(pid {}, uid {uid}, gid {gid})", std::process::id())
}

fn ask(mut client: Client) -> serde_json::Value {
    serde_json::from_str(client.get("/").unwrap().text()).unwrap()
}

/// The same answers from each server.
fn everybody_is_known(sockets: &Sockets) {
    let ListenAddr::Tcp(addr) = sockets.tcp() else { panic!("the first is TCP") };
    let stream = TcpStream::connect(addr).unwrap();
    let own = stream.local_addr().unwrap();
    let expected = json!({ "peer": own, "ip": own.ip(), "addr": own, "credentials": null });
    assert_eq!(ask(Client::over(stream).unwrap()), expected);

    let unnamed = ask(sockets.connect_unix());
    assert_eq!(unnamed["credentials"], own_credentials());
    assert_eq!(unnamed["peer"], format!("unix {}", own_identity()));

    let path = sockets.dir.path().join("client.sock");
    let by_path = ask(sockets.connect_unix_from(&SockAddr::unix(&path).unwrap()));
    assert_eq!(by_path["peer"], format!("unix:{} {}", path.display(), own_identity()));
    assert_eq!(by_path["ip"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_axum_tells_a_handler_who_is_at_the_other_end() {
    let sockets = Sockets::new();
    let listener = sockets.set.one("http").unwrap();
    let make = app().into_make_service_with_connect_info::<PeerAddr>();
    let serving = tokio::spawn(axum::serve(listener, make).into_future());
    everybody_is_known(&sockets);
    serving.abort();
}

#[cfg(feature = "server")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_tells_a_handler_who_is_at_the_other_end() {
    let sockets = Sockets::new();
    let serving = tokio::spawn(
        Server::new(sockets.set.clone()).serve("http", app()).without_signals().without_handoff_signals().run(),
    );
    everybody_is_known(&sockets);
    serving.abort();
}

#[cfg(feature = "server")]
#[tokio::test(flavor = "multi_thread")]
async fn an_ipv4_client_of_an_ipv6_socket_has_an_ipv4_address() {
    let set = ActivatedListeners::builder().fallback("http", ":0").build().unwrap();
    let Some(ListenAddr::Tcp(addr)) = set.iter().next().unwrap().addr().cloned() else { panic!("it is TCP") };
    let serving = tokio::spawn(Server::new(set).serve("http", app()).without_signals().without_handoff_signals().run());
    let client = TcpStream::connect(("127.0.0.1", addr.port())).unwrap();
    let answer = ask(Client::over(client).unwrap());
    assert_eq!(answer["ip"], "127.0.0.1");
    assert!(answer["peer"].as_str().unwrap().starts_with("[::ffff:127.0.0.1]:"), "{answer}");
    serving.abort();
}
