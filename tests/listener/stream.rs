//! An accepted connection, and what the listening socket gave it.

use std::{
    io::{IoSlice, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::{UnixListener, UnixStream},
    },
    time::Duration,
};

use axum_activation::{ActivatedListener, ActivatedListeners, ActivatedStream, ListenAddr, ListenOptions};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::support::sockets;

fn bound(options: ListenOptions) -> ActivatedListener {
    let set = ActivatedListeners::builder().fallback_with("http", "127.0.0.1:0", options).build().unwrap();
    set.one("http").unwrap()
}

fn tcp_addr(listener: &ActivatedListener) -> SocketAddr {
    match listener.local_addrs()[0] {
        ListenAddr::Tcp(addr) => addr,
        ref other => panic!("{other} is not TCP"),
    }
}

async fn accepted_tcp() -> (TcpStream, ActivatedStream) {
    let mut listener = bound(ListenOptions::new());
    let client = TcpStream::connect(tcp_addr(&listener)).unwrap();
    (client, listener.accept().await.0)
}

async fn accepted_unix() -> (UnixStream, ActivatedStream) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let set = ActivatedListeners::builder().socket("http", UnixListener::bind(&path).unwrap()).build().unwrap();
    let client = UnixStream::connect(path).unwrap();
    let stream = set.one("http").unwrap().accept().await.0;
    (client, stream)
}

/// Two buffers go out in one call, the end of what the client sends comes in, and its end is seen.
async fn passes_bytes(mut client: impl Read + Write, mut stream: ActivatedStream, close: impl FnOnce()) {
    assert!(stream.is_write_vectored());
    let parts = [IoSlice::new(b"hello "), IoSlice::new(b"world")];
    assert_eq!(stream.write_vectored(&parts).await.unwrap(), 11);
    stream.write_all(b"!").await.unwrap();
    stream.flush().await.unwrap();
    let mut received = [0; 12];
    client.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"hello world!");

    client.write_all(b"bye").unwrap();
    close();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "bye");
    stream.shutdown().await.unwrap();
    assert_eq!(client.read(&mut received).unwrap(), 0);
}

#[tokio::test]
async fn bytes_pass_through_a_tcp_stream() {
    let (client, stream) = accepted_tcp().await;
    let same = client.try_clone().unwrap();
    passes_bytes(client, stream, || same.shutdown(Shutdown::Write).unwrap()).await;
}

#[tokio::test]
async fn bytes_pass_through_a_unix_stream() {
    let (client, stream) = accepted_unix().await;
    let same = client.try_clone().unwrap();
    passes_bytes(client, stream, || same.shutdown(Shutdown::Write).unwrap()).await;
}

#[tokio::test]
async fn a_stream_shows_the_tokio_stream_within() {
    let (client, stream) = accepted_tcp().await;
    assert_eq!(stream.as_tcp().unwrap().peer_addr().unwrap(), client.local_addr().unwrap());
    assert_eq!(stream.as_fd().as_raw_fd(), stream.as_tcp().unwrap().as_raw_fd());
    assert!(stream.as_unix().is_none());

    let (_client, stream) = accepted_unix().await;
    assert_eq!(stream.as_fd().as_raw_fd(), stream.as_unix().unwrap().as_raw_fd());
    assert!(stream.as_tcp().is_none());
}

#[tokio::test]
async fn a_stream_gives_its_socket_back() {
    let (mut client, stream) = accepted_tcp().await;
    let socket = TcpStream::from(stream.into_fd().unwrap());
    (&socket).write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();

    let (mut client, stream) = accepted_unix().await;
    let socket = UnixStream::from(stream.into_fd().unwrap());
    (&socket).write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[tokio::test]
async fn a_socket_of_a_passed_listener_comes_without_a_timeout() {
    let socket = sockets::tcp();
    let addr = socket.local_addr().unwrap();
    let mut listener = ActivatedListeners::builder().socket("http", socket).build().unwrap().one("http").unwrap();
    let _client = TcpStream::connect(addr).unwrap();
    let stream = TcpStream::from(listener.accept().await.0.into_fd().unwrap());
    assert_eq!(stream.read_timeout().unwrap(), None);
}

#[tokio::test]
async fn tcp_streams_of_a_fresh_socket_do_not_delay() {
    let (_client, stream) = accepted_tcp().await;
    assert!(stream.as_tcp().unwrap().nodelay().unwrap());
}

#[tokio::test]
async fn five_hundred_connections_fit_in_the_default_queue() {
    let mut listener = bound(ListenOptions::new());
    let addr = tcp_addr(&listener);
    let connect = || TcpStream::connect_timeout(&addr, Duration::from_secs(5)).expect("the queue is full");
    let clients: Vec<_> = (0..500).map(|_| connect()).collect();
    for _ in &clients {
        listener.accept().await;
    }
}

/// A full queue drops what comes on top: on loopback the client of a Unix socket learns it at once.
#[tokio::test]
async fn the_queue_is_as_long_as_was_asked_for() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let options = ListenOptions::new().backlog(3);
    let set = ActivatedListeners::builder().fallback_with("http", path.as_path(), options).build().unwrap();
    let connect = || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM.nonblocking(), None).unwrap();
        socket.connect(&socket2::SockAddr::unix(&path).unwrap()).map(|()| socket)
    };
    let clients: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
    assert_eq!(clients.len(), 4, "Linux takes one more than the backlog");
    drop(set);
}

#[tokio::test]
async fn a_listener_prints_its_name_and_addresses() {
    let socket = sockets::tcp();
    let addr = socket.local_addr().unwrap();
    let listener = ActivatedListeners::builder().socket("http", socket).build().unwrap().one("http").unwrap();
    let expected = format!("ActivatedListener {{ name: \"http\", addrs: [\"{addr}\"], .. }}");
    assert_eq!(format!("{listener:?}"), expected);
    assert_eq!(listener.name(), "http");
    assert_eq!(axum::serve::Listener::local_addr(&listener).unwrap().socket_addr(), Some(addr));
}
