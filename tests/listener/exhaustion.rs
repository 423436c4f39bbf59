//! A process that is out of descriptors: connections wait in the queue, nothing spins, and all are served in the end.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum_activation::{ActivatedListener, ActivatedListeners};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use crate::{
    child::{Scene, Stage},
    sockets,
};

const CLIENTS: usize = 10;

/// What the child saw while it had no descriptor left.
#[derive(Debug, Serialize, Deserialize)]
struct Exhausted {
    /// How often it was told that a connection cannot be accepted.
    errors: usize,
    seconds: u64,
    /// User and system time that all of it took, in ticks of 10 ms.
    ticks: u64,
}

/// Lines that were traced.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
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
pub(crate) async fn run_out_of_descriptors(stage: &Stage) {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).init();
    let mut listener = ActivatedListeners::from_env().unwrap().one("http").unwrap();
    lower_the_limit();
    let hoard = take_every_descriptor();
    stage.say("exhausted");
    stage.hear();

    let (began, ticks) = (Instant::now(), cpu_ticks());
    assert!(timeout(Duration::from_secs(60), listener.accept()).await.is_err());
    let (seconds, ticks) = (began.elapsed().as_secs(), cpu_ticks() - ticks);
    stage.say(Exhausted { errors: log.count("cannot accept connections, they wait in the queue"), seconds, ticks });

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
    let mut child = Scene::passed("run_out_of_descriptors", [("http", socket.into())]).start();
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
