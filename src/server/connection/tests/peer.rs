//! What a handler can extract of its client, on a connection that was accepted here and on one that was moved.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use axum::{Router, body::Body, extract::ConnectInfo, http::Extensions, routing::get};
use hyper::body::Bytes;
use tokio::task::spawn_blocking;

use super::{
    super::{Connection, service::HttpService, transferred::TransferredConnection},
    world,
};
use crate::{
    addr::PeerAddr,
    idle_connection::{IdleConnection, Times},
    listener::ActivatedStream,
};

#[derive(Clone)]
struct Served(Router);

impl HttpService for Served {
    type Body = Body;
    type Tower = Router;

    fn tower(&self) -> Router {
        self.0.clone()
    }
}

async fn peer(extensions: Extensions, ConnectInfo(peer): ConnectInfo<PeerAddr>) -> String {
    let socket = extensions.get::<ConnectInfo<SocketAddr>>();
    format!("{:?} {}", socket.map(|ConnectInfo(addr)| addr), peer.ip().is_some())
}

/// What the handler says to a client whose connection is accepted, and to one whose connection is moved here.
async fn answers(pair: impl Fn() -> (OwnedFd, OwnedFd)) -> [String; 2] {
    let service = Served(Router::new().route("/", get(peer)));
    let (ours, near) = pair();
    let stream = ActivatedStream::register(ours).unwrap();
    let addr = stream.peer_addr().unwrap();
    tokio::spawn(Connection::new(stream, addr, service.clone(), world::context(), None).serve());

    let (ours, far) = pair();
    let connection = IdleConnection {
        listener: "http".into(),
        stream: ours,
        peer: "10.9.8.7:1".parse().unwrap(),
        read_ahead: Bytes::new(),
        undetected: true,
        times: Times::now(),
        reservation: None,
    };
    let transferred = TransferredConnection::register(connection).unwrap();
    tokio::spawn(Connection::resumed(transferred, service, world::context(), None).serve());
    [answer(near).await, answer(far).await]
}

async fn answer(client: OwnedFd) -> String {
    let ask = move || {
        let mut client = std::fs::File::from(client);
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        response.rsplit_once("\r\n\r\n").unwrap().1.to_owned()
    };
    spawn_blocking(ask).await.unwrap()
}

#[tokio::test]
async fn a_tcp_client_has_a_socket_address_also_after_a_move() {
    let gate = TcpListener::bind("127.0.0.1:0").unwrap();
    let clients = std::sync::Mutex::new(Vec::new());
    let pair = || {
        let client = TcpStream::connect(gate.local_addr().unwrap()).unwrap();
        clients.lock().unwrap().push(client.local_addr().unwrap());
        (gate.accept().unwrap().0.into(), client.into())
    };
    let answers = answers(pair).await;
    let expected: Vec<_> = clients.lock().unwrap().iter().map(|addr| format!("Some({addr}) true")).collect();
    assert_eq!(answers.to_vec(), expected);
}

#[tokio::test]
async fn a_unix_client_has_none() {
    let pair = || {
        let (ours, client) = UnixStream::pair().unwrap();
        (ours.into(), client.into())
    };
    assert_eq!(answers(pair).await, ["None false", "None false"]);
}
