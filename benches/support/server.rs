//! The server process of a benchmark: one way to serve, on the listening socket that it has as its standard input.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use axum::{Router, body::Body, http::Request, routing::get};
use axum_activation::{ActivatedListeners, Server};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::process::Signal;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tower::ServiceExt;

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
    /// hyper's HTTP/2 alone, with the same router.
    Http2,
}

/// What the listening socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By a signal that it does not handle.
    Killed,
    /// In order, at SIGTERM. How long idle connections keep-alive grace then is for [`Variant::Server`] alone.
    Drained { keep_alive_grace: Duration },
}

/// The command line of a server process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) variant: Variant,
    pub(crate) transport: Transport,
    /// Worker threads; 0 is tokio's `current_thread`.
    pub(crate) workers: usize,
    pub(crate) end: End,
}

impl Variant {
    /// Those that speak HTTP/1.1.
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Serve, Self::Server];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::Serve => "serve",
            Self::Server => "server",
            Self::Http2 => "http2",
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

impl End {
    fn of(text: &str) -> Option<Self> {
        match text {
            "killed" => Some(Self::Killed),
            keep_alive_grace => {
                Some(Self::Drained { keep_alive_grace: Duration::from_millis(keep_alive_grace.parse().ok()?) })
            }
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.pad("killed"),
            Self::Drained { keep_alive_grace } => keep_alive_grace.as_millis().fmt(f),
        }
    }
}

impl Job {
    pub(crate) fn to_args(self) -> [String; 5] {
        let Self { variant, transport, workers, end } = self;
        [ROLE.to_owned(), variant.to_string(), transport.to_string(), workers.to_string(), end.to_string()]
    }

    /// The job of this process, if it is a server process.
    pub(crate) fn of_this_process() -> Option<Self> {
        let args: Vec<_> = std::env::args().skip(1).collect();
        let [role, variant, transport, workers, end] = args.as_slice() else { return None };
        let variant = Variant::ALL.into_iter().chain([Variant::Http2]).find(|known| known.to_string() == *variant)?;
        let transport = Transport::ALL.into_iter().find(|known| known.to_string() == *transport)?;
        let (workers, end) = (workers.parse().ok()?, End::of(end)?);
        (role == ROLE).then_some(Self { variant, transport, workers, end })
    }

    /// Serves until its [`End`].
    pub(crate) fn run(self) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        // A task for every variant: who serves from `block_on` hops between threads at each connection.
        let runtime = self.runtime()?;
        runtime.block_on(async move {
            match self.end {
                End::Killed => tokio::spawn(serve(self, socket)).await?,
                End::Drained { keep_alive_grace } => {
                    tokio::spawn(serve_and_drain(self, socket, keep_alive_grace)).await?
                }
            }
        })
    }

    fn runtime(self) -> io::Result<Runtime> {
        match self.workers {
            0 => Builder::new_current_thread().enable_all().build(),
            workers => Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
        }
    }
}

async fn serve(job: Job, socket: OwnedFd) -> io::Result<()> {
    match (job.variant, job.transport) {
        (Variant::Plain, Transport::Tcp) => axum::serve(TcpListener::from_std(socket.into())?, app()).await,
        (Variant::Plain, Transport::Unix) => axum::serve(UnixListener::from_std(socket.into())?, app()).await,
        (Variant::Serve, _) => axum::serve(activated(socket)?.one("http")?, app()).await,
        (Variant::Server, _) => {
            Server::new(activated(socket)?).without_signals().serve("http", app()).run().await?;
            Ok(())
        }
        (Variant::Http2, Transport::Tcp) => {
            let listener = TcpListener::from_std(socket.into())?;
            loop {
                tokio::spawn(serve_http2(listener.accept().await?.0));
            }
        }
        (Variant::Http2, Transport::Unix) => {
            let listener = UnixListener::from_std(socket.into())?;
            loop {
                tokio::spawn(serve_http2(listener.accept().await?.0));
            }
        }
    }
}

/// hyper alone, with the settings that `Server` has.
async fn serve_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let app = app();
    let service = service_fn(move |request: Request<Incoming>| app.clone().oneshot(request.map(Body::new)));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(200)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

async fn serve_and_drain(job: Job, socket: OwnedFd, keep_alive_grace: Duration) -> io::Result<()> {
    if job.variant == Variant::Server {
        Server::new(activated(socket)?).keep_alive_grace(keep_alive_grace).serve("http", app()).run().await?;
        return Ok(());
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let stopped = async move {
        terminated.recv().await;
    };
    match (job.variant, job.transport) {
        (Variant::Serve, _) => {
            axum::serve(activated(socket)?.one("http")?, app()).with_graceful_shutdown(stopped).await
        }
        (_, Transport::Tcp) => {
            axum::serve(TcpListener::from_std(socket.into())?, app()).with_graceful_shutdown(stopped).await
        }
        (_, Transport::Unix) => {
            axum::serve(UnixListener::from_std(socket.into())?, app()).with_graceful_shutdown(stopped).await
        }
    }
}

fn app() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

fn activated(socket: OwnedFd) -> io::Result<ActivatedListeners> {
    Ok(ActivatedListeners::builder().socket("http", socket).build()?)
}
