//! The server process of a benchmark: one way to serve, on the listening socket that it has as its standard input.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Server};
use rustix::process::Signal;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::{Builder, Runtime},
};

/// The first argument of a server process.
pub(crate) const ROLE: &str = "serve-as";

/// The ways to serve that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// `axum::serve` with tokio's own listener.
    Plain,
    /// `axum::serve` with an `ActivatedListener`.
    Serve,
    /// `axum_activation::Server`.
    Server,
}

/// What the listening socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// What a server process is told on its command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) variant: Variant,
    pub(crate) transport: Transport,
    /// Worker threads; 0 is tokio's `current_thread`.
    pub(crate) workers: usize,
}

impl Variant {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Serve, Self::Server];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::Serve => "serve",
            Self::Server => "server",
        })
    }
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Tcp, Self::Unix];
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Unix => "Unix",
        })
    }
}

impl Job {
    pub(crate) fn to_args(self) -> [String; 4] {
        [ROLE.to_owned(), self.variant.to_string(), self.transport.to_string(), self.workers.to_string()]
    }

    /// The job of this process, if it is a server process.
    pub(crate) fn of_this_process() -> Option<Self> {
        let args: Vec<_> = std::env::args().skip(1).collect();
        let [role, variant, transport, workers] = args.as_slice() else { return None };
        let variant = Variant::ALL.into_iter().find(|known| known.to_string() == *variant)?;
        let transport = Transport::ALL.into_iter().find(|known| known.to_string() == *transport)?;
        (role == ROLE).then_some(Self { variant, transport, workers: workers.parse().ok()? })
    }

    /// Serves until the process is killed.
    pub(crate) fn run(self) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        // A task for every variant: who serves from `block_on` hops between threads at each connection.
        let runtime = self.runtime()?;
        runtime.block_on(async move { tokio::spawn(serve(self, socket)).await? })
    }

    fn runtime(self) -> io::Result<Runtime> {
        match self.workers {
            0 => Builder::new_current_thread().enable_all().build(),
            workers => Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
        }
    }
}

async fn serve(job: Job, socket: OwnedFd) -> io::Result<()> {
    let app = Router::new().route("/", get(|| async { "hello" }));
    let activated = |socket: OwnedFd| ActivatedListeners::builder().socket("http", socket).build();
    match (job.variant, job.transport) {
        (Variant::Plain, Transport::Tcp) => axum::serve(TcpListener::from_std(socket.into())?, app).await,
        (Variant::Plain, Transport::Unix) => axum::serve(UnixListener::from_std(socket.into())?, app).await,
        (Variant::Serve, _) => axum::serve(activated(socket)?.one("http")?, app).await,
        (Variant::Server, _) => {
            Server::new(activated(socket)?).without_signals().route("http", app).run().await?;
            Ok(())
        }
    }
}
