//! A server in the test's own process, and what tests look at from outside.

use std::{net::TcpStream, sync::Arc};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, DrainReport, Error, ListenAddr, Server};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::timeout,
};

use crate::support::{
    http::Client,
    sockets,
    wait::{LIMIT, eventually},
};

/// A set with a TCP socket of its own for each name.
pub(crate) fn tcp_set(names: &[&str]) -> ActivatedListeners {
    let builder = names.iter().fold(ActivatedListeners::builder(), |set, name| set.socket(*name, sockets::tcp()));
    builder.build().unwrap()
}

/// Where the first socket of that name listens.
pub(crate) fn addr_of(set: &ActivatedListeners, name: &str) -> ListenAddr {
    set.iter().find(|socket| socket.name() == name).and_then(|socket| socket.addr().cloned()).unwrap()
}

/// A server that runs until it is asked to stop.
pub(crate) struct Running {
    task: JoinHandle<Result<DrainReport, Error>>,
    stop: oneshot::Sender<()>,
}

impl Running {
    pub(crate) fn start(server: Server) -> Self {
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        Self {
            task: tokio::spawn(
                server.without_signals().without_handoff_signals().with_graceful_shutdown(stopped).run(),
            ),
            stop,
        }
    }

    /// Begins the drain, and goes on.
    pub(crate) fn stop(self) -> JoinHandle<Result<DrainReport, Error>> {
        let _ = self.stop.send(());
        self.task
    }

    /// Begins the drain and waits for its end.
    pub(crate) async fn end(self) -> DrainReport {
        let ended = timeout(LIMIT, self.stop()).await;
        ended.expect("the server does not end").unwrap().unwrap()
    }

    /// Drops the future that runs the server.
    pub(crate) async fn drop_it(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// A server with one request in flight, which waits at the gate.
pub(crate) struct Waiting {
    pub(crate) running: Running,
    pub(crate) addr: ListenAddr,
    pub(crate) gate: Gate,
    pub(crate) client: Client,
}

impl Waiting {
    pub(crate) async fn start(configure: impl FnOnce(Server) -> Server) -> Self {
        let (set, gate) = (tcp_set(&["http"]), Gate::new());
        let addr = addr_of(&set, "http");
        let running = Running::start(configure(Server::new(set).serve("http", gate.app())));
        let mut client = Client::connect(&addr).unwrap();
        client.ask("/wait").unwrap();
        gate.arrival().await;
        Self { running, addr, gate, client }
    }
}

/// Requests that wait until they are let go: `GET /wait`. `GET /` answers at once.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
    gone: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self { arrived: none(), open: none(), gone: none() }
    }

    pub(crate) fn app(&self) -> Router {
        let gate = self.clone();
        Router::new().route("/", get(|| async { "hello" })).route("/wait", get(|| async move { gate.pass().await }))
    }

    async fn pass(&self) -> &'static str {
        let _gone = AddOnDrop(&self.gone);
        self.arrived.add_permits(1);
        one_of(&self.open).await;
        "let go"
    }

    /// Resolves when one more request waits.
    pub(crate) async fn arrival(&self) {
        one_of(&self.arrived).await;
    }

    /// Lets one request go.
    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    /// Resolves when one more request that waited is over, answered or dropped.
    pub(crate) async fn departure(&self) {
        one_of(&self.gone).await;
    }
}

async fn one_of(semaphore: &Semaphore) {
    semaphore.acquire().await.unwrap().forget();
}

struct AddOnDrop<'a>(&'a Semaphore);

impl Drop for AddOnDrop<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// Returns when no process listens on `addr` any more.
#[track_caller]
pub(crate) fn wait_until_refused(addr: &ListenAddr) {
    let ListenAddr::Tcp(addr) = addr else { panic!("{addr} is not TCP") };
    eventually("connections are refused", || TcpStream::connect(addr).is_err());
}
