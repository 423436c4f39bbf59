//! The service, a process of its own each time, and a store that outlives it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::Path, routing::get};
use axum_activation::{ActivatedListeners, Drain, Server, handoff::PlainSuccessor};
use rustix::process::Signal;
use tokio::{sync::Notify, task::spawn_blocking};

use crate::support::{
    http::Client,
    manager::Manager,
    subprocess::{Child, ChildIo, Subprocess},
    wait::eventually,
};

/// A client's end.
pub(crate) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A service manager with a service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) manager: Manager,
    /// Newest last.
    pub(crate) stored: Vec<(String, OwnedFd)>,
    /// Where it is to listen when it is passed no socket.
    pub(crate) address: String,
    /// The name of its route.
    pub(crate) name: String,
    /// What it says to `Server::fd_store`.
    pub(crate) said: Option<usize>,
    /// What `FDSTORE` tells it, which systemd sets from 254 on.
    pub(crate) given: Option<&'static str>,
    /// Its successors know nothing of each other.
    pub(crate) plain: bool,
    /// How long its drain may take.
    pub(crate) drain_ms: u64,
    /// Messages that were looked at.
    seen: usize,
    ready: usize,
}

impl Service {
    /// One that listens on a port that is free.
    pub(crate) fn new() -> Self {
        Self::at(free_address().to_string())
    }

    pub(crate) fn at(address: String) -> Self {
        Self {
            manager: Manager::start(),
            stored: Vec::new(),
            address,
            name: "http".to_owned(),
            said: Some(64),
            given: None,
            plain: false,
            drain_ms: 20_000,
            seen: 0,
            ready: 0,
        }
    }

    /// Starts a process, which is passed what is stored; it is ready.
    pub(crate) fn start(&mut self) -> Child {
        let child = self.start_deaf();
        self.wait_until_ready();
        child
    }

    /// As [`start`](Self::start); it may not be ready yet.
    pub(crate) fn start_deaf(&mut self) -> Child {
        let names: Vec<_> = self.stored.iter().rev().map(|(name, _)| name.as_str()).collect();
        let subprocess =
            Subprocess::new("serve_and_store").own_pid().count(names.len().to_string()).names(names.join(":"));
        let fds = self.stored.iter().rev().map(|(_, fd)| fd.try_clone().unwrap());
        let subprocess = fds.fold(subprocess, Subprocess::fd).variable("NOTIFY_SOCKET", self.manager.address());
        let subprocess = subprocess.variable("DRAIN_MS", self.drain_ms.to_string());
        let subprocess = subprocess.variable("NAME", &self.name);
        let subprocess =
            self.said.iter().fold(subprocess, |subprocess, said| subprocess.variable("FD_STORE", said.to_string()));
        let subprocess = if self.plain { subprocess.variable("PLAIN", "1") } else { subprocess };
        let subprocess = self.given.iter().fold(subprocess, |subprocess, given| subprocess.variable("FDSTORE", given));
        self.ready += 1;
        subprocess.arg(&self.address).start()
    }

    pub(crate) fn wait_until_ready(&self) {
        self.manager.wait("it is ready", |manager| {
            manager.texts().iter().filter(|text| says_ready(text)).count() == self.ready
        });
    }

    /// Ends it in order, and keeps what it has stored.
    pub(crate) fn stop(&mut self, child: Child) {
        child.signal(Signal::TERM);
        child.finish();
        self.look();
    }

    /// Does with the store what the messages so far say, as systemd does.
    pub(crate) fn look(&mut self) {
        let (stored, seen) = (&mut self.stored, &mut self.seen);
        self.manager.heard(|heard| {
            for message in heard.iter_mut().skip(*seen) {
                let name = message.values("FDNAME").next().unwrap_or_default();
                if message.says("FDSTOREREMOVE=1") {
                    stored.retain(|(other, _)| *other != name);
                }
                let fds = std::mem::take(&mut message.fds);
                if message.says("FDSTORE=1") {
                    assert_eq!(
                        fds.len(),
                        1,
                        "one in each message: which are kept over the limit is arbitrary otherwise"
                    );
                    let new = fds.into_iter().filter(|fd| !stored.iter().any(|(_, other)| file(fd) == file(other)));
                    let new: Vec<_> = new.collect();
                    stored.extend(new.into_iter().map(|fd| (name.clone(), fd)));
                }
            }
            *seen = heard.len();
        });
    }

    /// The last `STATUS=`.
    pub(crate) fn last_status(&self) -> String {
        self.manager.values("STATUS").pop().unwrap_or_default()
    }

    /// Waits until only the listener is stored.
    #[track_caller]
    pub(crate) fn has_one_listener(&mut self) {
        eventually("nothing but the listener is stored", || {
            self.look();
            matches!(&*self.names(), [name] if name.starts_with("aa.l"))
        });
    }

    /// The names of all that is stored, oldest first.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.stored.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// A connection on which nothing was sent.
    pub(crate) fn open(&self) -> Box<dyn Stream> {
        if self.address.starts_with('/') {
            Box::new(UnixStream::connect(&self.address).unwrap())
        } else {
            Box::new(TcpStream::connect(&self.address).unwrap())
        }
    }

    /// A connection that has had an answer.
    pub(crate) fn connect(&self) -> Client {
        let mut client = Client::connect(&*self.address).unwrap();
        assert_eq!(client.get("/1").unwrap().text(), "1");
        client
    }
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Which file it is: a descriptor that was passed on is the same one.
fn file(fd: impl AsFd) -> (u64, u64) {
    let stat = rustix::fs::fstat(fd).unwrap();
    (stat.st_dev, stat.st_ino)
}

fn says_ready(text: &str) -> bool {
    text.lines().any(|line| line == "READY=1")
}

/// Serves until a signal, and opens the gate when it is asked to.
#[tokio::main]
pub(crate) async fn serve(io: &ChildIo) {
    let name = std::env::var("NAME").unwrap();
    let activated = ActivatedListeners::builder().fallback(&name, io.arg().as_str()).from_env().unwrap();
    let gate = Arc::new(Notify::new());
    let (opened, names) = (Arc::clone(&gate), activated.clone());
    // Ends with the process.
    drop(spawn_blocking(move || {
        let io = ChildIo;
        while io.hear() == "open" {
            opened.notify_one();
        }
        if std::env::var_os("SUCCESSOR").is_some() {
            std::process::exit(86); // The test is over, and no other process ends what has no parent there.
        }
    }));
    let hold = async move |drain: Drain| {
        gate.notified().await;
        format!("draining: {}, for good: {}", drain.has_started(), !drain.has_successor())
    };
    let app = Router::new()
        .route("/hold", get(hold))
        .route("/pid", get(std::process::id().to_string()))
        .route("/names", get(async move || names.names().join(" ")))
        .route("/{id}", get(async |Path(id): Path<String>| id));
    let mut server = Server::new(activated).serve(name, app).keep_alive_grace(Duration::from_millis(300));
    if std::env::var_os("PLAIN").is_some() {
        server = server.plain_successor(PlainSuccessor::AliveFor(Duration::from_millis(100)));
        server = server.successor_env("SUCCESSOR", Some("1".into()));
    }
    if let Ok(said) = std::env::var("FD_STORE") {
        server = server.fd_store(said.parse().unwrap());
    }
    let drain = Duration::from_millis(std::env::var("DRAIN_MS").unwrap().parse().unwrap());
    server.drain_timeout(drain).run().await.unwrap();
    std::process::exit(0);
}
