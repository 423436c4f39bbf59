//! Handshakes: what is agreed upon, what fails and how it is counted, and that no slow client delays another one.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::Arc,
    time::Duration,
};

use axum_activation::{ListenAddr, drain::HandshakeFailure, server::ServeOptions, tls::rustls};

use super::{Https, app, ask};
use crate::{
    running::{Running, addr_of, tcp_set},
    support::{
        certificates::{Authority, TlsClient},
        needs,
        wait::{LIMIT, eventually},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_openssl_agree_upon_version_and_protocol() {
    needs::program("curl", "curl");
    needs::program("openssl", "openssl");
    let authority = Authority::new();
    let https = Https::start(authority.issue("localhost").tls().build().unwrap());
    let ListenAddr::Tcp(addr) = https.addr.clone() else { panic!("TCP") };
    for (protocol, answer) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
        for (most, version) in [("1.2", "TLSv1_2"), ("1.3", "TLSv1_3")] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "-i", protocol, "--tls-max", most, "--cacert"]).arg(authority.file());
            curl.arg(format!("https://localhost:{}/", addr.port()));
            let output = curl.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.starts_with(answer) && text.contains(version), "{protocol} {most}: {output:?}");
        }
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-brief", "-alpn", "h2", "-verify_return_error", "-servername", "localhost"]);
    openssl.args(["-connect", &addr.to_string(), "-CAfile"]).arg(authority.file());
    let output = openssl.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    eventually("all are counted", || https.handshakes().done == 5 && https.handshakes().in_flight == 0);
    assert_eq!(https.handshakes().failed.total(), 0);
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_resumes_its_session() {
    let authority = Authority::new();
    let https = Https::start(authority.issue("localhost").tls().build().unwrap());
    for version in super::VERSIONS {
        let config = Arc::new(authority.client_with(version, None));
        let first = ask(&mut https.connect(&config)).unwrap();
        let second = ask(&mut https.connect(&config)).unwrap();
        assert!(first.contains("full") && second.contains("resumed"), "{first} {second}");
    }
    assert_eq!((https.handshakes().done, https.handshakes().resumed), (4, 2));
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_clear_is_answered_and_other_bytes_are_not() {
    let authority = Authority::new();
    let https = Https::start(authority.issue("localhost").tls().build().unwrap());
    let answer = send(&https.addr, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("use https:// in place of http://\n"), "{answer}");
    assert_eq!(send(&https.addr, b"\0\x01\x02"), "");
    https.wait_for_failures(HandshakeFailure::ClearText, 2);
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_on_a_socket_in_clear_is_closed_at_once() {
    let set = tcp_set(&["http"]);
    let addr = addr_of(&set, "http");
    let running = Running::start(axum_activation::Server::new(set).serve("http", axum::Router::new()));
    let config = Arc::new(Authority::new().client());
    let mut client = crate::support::certificates::connect(&addr, &config, "localhost");
    let error = ask(&mut client).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    assert_eq!(running.end().await.listeners[0].errors, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_counted_by_its_reason() {
    let authority = Authority::new();
    let tls = authority.issue("localhost").tls().client_ca_file(authority.file()).build().unwrap();
    let https = Https::start(tls.handshake_timeout(Duration::from_millis(200)));
    let count = |reason: HandshakeFailure| {
        eventually(reason.name(), || https.handshakes().failed.of(reason) == 1);
    };

    let ListenAddr::Tcp(addr) = https.addr.clone() else { panic!("TCP") };
    let silent = TcpStream::connect(addr).unwrap();
    count(HandshakeFailure::Timeout);
    drop(silent);
    drop(TcpStream::connect(addr).unwrap());
    count(HandshakeFailure::Closed);
    send(&https.addr, b"\x16\x03\x01\x00\x05hello");
    count(HandshakeFailure::Malformed);
    // No certificate of its own.
    ask(&mut https.connect(&Arc::new(authority.client()))).unwrap_err();
    count(HandshakeFailure::ClientCertificate);
    // It trusts another authority.
    ask(&mut https.connect(&Arc::new(Authority::new().client()))).unwrap_err();
    count(HandshakeFailure::Alert);
    let mut config = authority.client();
    config.alpn_protocols = vec![b"gopher".to_vec()];
    ask(&mut https.connect(&Arc::new(config))).unwrap_err();
    count(HandshakeFailure::Incompatible);
    assert_eq!(https.handshakes().failed.total(), 6, "{}", https.handshakes().failed);
    assert_eq!((https.handshakes().done, https.handshakes().in_flight), (0, 0));
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_connect_and_do_nothing_keep_no_place_that_another_one_needs() {
    let authority = Authority::new();
    let tls = authority.issue("localhost").tls().build().unwrap();
    let options = ServeOptions::new().tls(tls).max_connections(2);
    let https = Https::start_with(app(), options, |server| server);
    let ListenAddr::Tcp(addr) = https.addr.clone() else { panic!("TCP") };
    let config = Arc::new(authority.client());
    let silent = TcpStream::connect(addr).unwrap();
    eventually("it is accepted", || https.listener().open == 1);
    // Both places for connections are free, and one for handshakes.
    let mut clients = [https.connect(&config), https.connect(&config)];
    clients.iter_mut().for_each(|client| drop(ask(client).unwrap()));
    // The third one has done its handshake, and waits for a place.
    let mut third = https.connect(&config);
    third.write_all(super::REQUEST).unwrap();
    third.sock.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.read(&mut [0; 100]).is_err(), "there is no place");
    drop(clients);
    third.sock.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(ask(&mut third).is_ok());
    drop(silent);
    https.running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_in_pieces_is_done() {
    let authority = Authority::new();
    let https = Https::start(authority.issue("localhost").tls().build().unwrap());
    let mut client: TlsClient = https.connect(&Arc::new(authority.client()));
    client.sock.set_nodelay(true).unwrap();
    let mut hello = Vec::new();
    client.conn.write_tls(&mut hello).unwrap();
    for byte in hello {
        client.sock.write_all(&[byte]).unwrap();
    }
    assert!(ask(&mut client).unwrap().contains("tlsv1_3 localhost full"));
    assert_eq!(client.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    https.running.end().await;
}

/// Sends it, and reads until the server closes.
fn send(addr: &ListenAddr, bytes: &[u8]) -> String {
    let ListenAddr::Tcp(addr) = addr else { panic!("TCP") };
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
