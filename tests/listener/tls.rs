//! TLS under `axum::serve`: a listener whose connections have done their handshake.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use axum::{Router, extract::ConnectInfo, routing::get};
use axum_activation::{
    ActivatedListeners, Drain, ListenAddr, PeerAddr,
    tls::{TlsInfo, rustls::ProtocolVersion},
};

use crate::support::{
    certificates::{Authority, TlsClient, connect},
    sockets,
};

fn set() -> (ActivatedListeners, ListenAddr) {
    let set = ActivatedListeners::builder().socket("https", sockets::tcp()).build().unwrap();
    let addr = set.iter().next().and_then(|socket| socket.addr().cloned()).unwrap();
    (set, addr)
}

fn ask(client: &mut TlsClient) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn axum_serves_over_tls_while_other_clients_do_nothing() {
    let (set, addr) = set();
    let authority = Authority::new();
    let listener = set.one("https").unwrap().tls(authority.issue("localhost").tls().build().unwrap());
    let about = |ConnectInfo(tls): ConnectInfo<TlsInfo>| async move {
        format!("{:?} {:?}", tls.version(), tls.alpn_protocol().map(String::from_utf8_lossy))
    };
    let app = Router::new().route("/", get(about));
    tokio::spawn(async { axum::serve(listener, app.into_make_service_with_connect_info::<TlsInfo>()).await });
    let ListenAddr::Tcp(tcp) = addr.clone() else { panic!("TCP") };
    let _silent = [TcpStream::connect(tcp).unwrap(), TcpStream::connect(tcp).unwrap()];
    let mut config = authority.client();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let answer = ask(&mut connect(&addr, &Arc::new(config), "localhost"));
    assert!(answer.ends_with("TLSv1_3 Some(\"http/1.1\")"), "HTTP/2 is not offered: {answer}");

    let mut clear = TcpStream::connect(tcp).unwrap();
    clear.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    clear.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_offered_where_it_is_asked_for() {
    let (set, addr) = set();
    let authority = Authority::new();
    let tls = authority.issue("localhost").tls().build().unwrap();
    let mut listener = set.one("https").unwrap().tls(tls).http2();
    let mut config = authority.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = connect(&addr, &Arc::new(config), "localhost");
    let handshake = tokio::task::spawn_blocking(move || client.conn.complete_io(&mut client.sock).map(|_| client));
    let (stream, peer) = listener.accept().await;
    let client = handshake.await.unwrap().unwrap();
    assert_eq!(stream.info().alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(peer, PeerAddr::Tcp(client.sock.local_addr().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_under_way_is_done_when_the_listener_stops() {
    let set = ActivatedListeners::builder().fallback("https", "127.0.0.1:0").build().unwrap();
    let addr = set.iter().next().and_then(|socket| socket.addr().cloned()).unwrap();
    let authority = Authority::new();
    let tls = authority.issue("localhost").tls().build().unwrap();
    let drain = Drain::new();
    let mut listener = set.one("https").unwrap().stop_on(&drain).tls(tls);
    let mut client = connect(&addr, &Arc::new(authority.client()), "localhost");
    drain.start();
    let handshake = tokio::task::spawn_blocking(move || client.conn.complete_io(&mut client.sock).map(|_| client));
    let (stream, _) = listener.accept().await;
    assert_eq!(stream.info().version(), ProtocolVersion::TLSv1_3);
    drop(handshake.await.unwrap().unwrap());
}
