//! A process that is out of descriptors: connections wait in the queue, nothing spins, and all are served in the end.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
#[cfg(feature = "server")]
use axum_activation::Server;
use axum_activation::{ActivatedListener, ActivatedListeners};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt,
    task::yield_now,
    time::{Instant, timeout},
};

use crate::support::{
    sockets,
    subprocess::{ChildIo, Subprocess},
};

const CLIENTS: usize = 10;

/// What the child saw while it had no descriptor left.
#[derive(Debug, Serialize, Deserialize)]
struct Exhausted {
    /// How often it logged that a connection cannot be accepted.
    errors: usize,
    seconds: u64,
    /// User and system time that all of it took, in ticks of 10 ms.
    ticks: u64,
}

/// Lines that were traced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(text).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The clock is paused: whenever nothing can happen it jumps to the next timer, so a minute of back-off passes at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn run_out_of_descriptors(io: &ChildIo) {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).init();
    let mut listener = ActivatedListeners::from_env().unwrap().one("http").unwrap();
    lower_the_limit();
    let hoard = take_every_descriptor();
    io.say("exhausted");
    io.hear();

    let (began, ticks) = (Instant::now(), cpu_ticks());
    assert!(timeout(Duration::from_secs(60), listener.accept()).await.is_err());
    let (seconds, ticks) = (began.elapsed().as_secs(), cpu_ticks() - ticks);
    io.say(Exhausted { errors: log.count("cannot accept connections, they wait in the queue"), seconds, ticks });

    drop(hoard);
    greet_everybody(&mut listener).await;
}

fn lower_the_limit() {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
}

fn take_every_descriptor() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

async fn greet_everybody(listener: &mut ActivatedListener) {
    let mut greeted = Vec::new();
    for _ in 0..CLIENTS {
        let (mut stream, _) = listener.accept().await;
        stream.write_all(b"hello").await.unwrap();
        greeted.push(stream);
    }
}

fn cpu_ticks() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec * 100 + time.tv_nsec / 10_000_000).unwrap()
}

#[test]
fn connections_wait_while_descriptors_are_out_and_nothing_spins() {
    let socket = sockets::tcp();
    let addr = socket.local_addr().unwrap();
    let mut child = Subprocess::passed("run_out_of_descriptors", [("http", socket.into())]).start();
    assert_eq!(child.hear::<String>(), "exhausted");
    let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(addr).unwrap()).collect();
    child.tell("go");

    let exhausted: Exhausted = child.hear();
    // 5, 10, 20 .. 640 ms, then once a second: 67 in a minute.
    assert!((60..=75).contains(&exhausted.errors), "{exhausted:?}");
    assert!(exhausted.ticks < 100, "a minute of waiting took more than a second: {exhausted:?}");
    for mut client in clients {
        let mut greeting = [0; 5];
        client.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"hello");
    }
    child.finish();
}

/// No descriptor is left when the drain begins, and there are some again when the test has said so.
#[cfg(feature = "server")]
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn drain_without_descriptors(io: &ChildIo) {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).init();
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build().unwrap();
    let address = activated.iter().next().unwrap().to_string();
    let server = Server::new(activated)
        .serve("http", Router::new().route("/", get("hello")))
        .without_signals()
        .without_handoff_signals();
    let (drain, stats) = (server.drain(), server.stats());
    let ended = tokio::spawn(server.run());
    while stats.read().is_empty() {
        yield_now().await;
    }
    lower_the_limit();
    let hoard = take_every_descriptor();
    io.say(address);
    io.hear();

    // The only thread has been here since the clients came: all of them are in the queue.
    drain.start();
    while log.count("cannot accept connections, they wait in the queue") == 0 && !ended.is_finished() {
        yield_now().await;
    }
    drop(hoard);
    let report = ended.await.unwrap().unwrap();
    io.say(report.listeners[0].requests);
}

#[cfg(feature = "server")]
#[test]
fn the_queue_of_an_own_socket_is_served_in_a_drain_as_soon_as_there_are_descriptors() {
    let mut child = Subprocess::new("drain_without_descriptors").start();
    let socket: String = child.hear();
    let addr: SocketAddr = socket.split(' ').nth(1).unwrap().parse().unwrap();
    let ask = |_| {
        let mut client = TcpStream::connect(addr).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        client
    };
    let clients: Vec<_> = (0..CLIENTS).map(ask).collect();
    child.tell("go");
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
    }
    assert_eq!(child.hear::<usize>(), CLIENTS);
    child.finish();
}
