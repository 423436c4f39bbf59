//! The process of a service, from within: it serves until it has handed over or is asked to end.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, Path as UrlPath},
    routing::get,
};
use axum_activation::{
    ActivatedListeners, Drain, ListenAddr, PeerAddr, Server,
    handoff::{Handoff, PlainSuccessor, Snapshot, StatePart},
    layer::DrainLayer,
};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::support::{
    real::routes::{Witness, routes},
    subprocess::{ChildIo, Line},
    wait::{find_async, some_turns},
};

type Failure = Box<dyn Error + Send + Sync>;

/// How long a process may drain, unless its settings say otherwise.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// The settings of a process; a successor that it starts has the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Where it is met.
    pub(crate) met: Option<PathBuf>,
    /// Users that it takes over from, and hands over to.
    pub(crate) peers: Vec<u32>,
    /// It is passed its sockets, and binds none.
    pub(crate) passed: bool,
    /// It serves with plain `axum::serve`.
    pub(crate) alone: bool,
    pub(crate) plain: Option<Plain>,
    /// In milliseconds, as the next.
    pub(crate) handoff_timeout: Option<u64>,
    pub(crate) drain_timeout: Option<u64>,
    /// A file that says what the process does that takes it away, before it is ready: `fail REASON`, `hang`, or `wait` until there is none.
    pub(crate) plan: Option<PathBuf>,
    /// A file that says at which address it listens.
    #[serde(default)]
    pub(crate) listen: Option<PathBuf>,
    /// It serves another socket by `axum::serve`, beside its server.
    #[serde(default)]
    pub(crate) beside: bool,
    /// How many sockets it binds under the name.
    pub(crate) sockets: Option<usize>,
    /// A file to which it notes what clients of other makers ask.
    #[serde(default)]
    pub(crate) witness: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Plain {
    Notifies,
    Lives(u64),
}

pub(crate) fn serve(io: &ChildIo) {
    thread::spawn(|| {
        // The end of the test is the end of all of them.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(86);
    });
    if env::var_os("RENDEZVOUS_LOG").is_some() {
        tracing_subscriber::fmt().with_writer(io::stderr).init();
    }
    let settings: Settings = serde_json::from_str(&io.arg()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let activated = sockets(&settings)?;
        Line::say(&format!("listens {}", address(&activated)));
        if settings.alone { run_alone(&settings, activated).await } else { run(&settings, activated).await }
    });
    runtime.shutdown_background();
    match ended {
        Ok(report) => Line::say(&format!("ends {report}")),
        Err(failure) => {
            Line::say(&format!("fails {failure:?}"));
            process::exit(1);
        }
    }
}

fn sockets(settings: &Settings) -> Result<ActivatedListeners, Failure> {
    let mut builder = ActivatedListeners::builder();
    if let Some(path) = &settings.met {
        builder = builder.handoff_socket(path).handoff_peers(settings.peers.clone());
    }
    if !settings.passed {
        let listen = settings.listen.as_ref().map(fs::read_to_string).transpose()?;
        let listen = listen.as_deref().unwrap_or("127.0.0.1:0");
        builder = (0..settings.sockets.unwrap_or(1)).fold(builder, |builder, _| builder.fallback("http", listen));
    }
    if settings.beside {
        builder = builder.fallback("beside", "127.0.0.1:0");
    }
    Ok(builder.from_env()?)
}

async fn run(settings: &Settings, activated: ActivatedListeners) -> Result<String, Failure> {
    let beside = settings.beside.then(|| activated.one("beside")).transpose()?;
    let mut server =
        Server::new(activated).drain_timeout(settings.drain_timeout.map_or(DRAIN_TIMEOUT, Duration::from_millis));
    if let Some(listener) = beside {
        Line::say(&format!("beside {}", listener.local_addrs()[0]));
        let app = app(server.handoff());
        drop(tokio::spawn(async move { axum::serve(listener, app).await }));
    }
    if let Some(plain) = settings.plain {
        // No idle connection is closed before its client has asked, however slow the machine is.
        server = server.keep_alive_grace(Duration::from_secs(60)).plain_successor(match plain {
            Plain::Notifies => PlainSuccessor::Notify,
            Plain::Lives(milliseconds) => PlainSuccessor::AliveFor(Duration::from_millis(milliseconds)),
        });
    }
    if let Some(limit) = settings.handoff_timeout {
        server = server.handoff_timeout(Duration::from_millis(limit));
    }
    let handoff = server.handoff();
    let generation = handoff.clone();
    let (plan, gone) = (settings.plan.clone(), handoff.clone());
    let real = settings.witness.as_deref().map(|path| routes(&Witness::open(path))).unwrap_or_default();
    let report = server
        .on_handoff_failure(|error| Line::say(&format!("failed {error:?}")))
        .handoff_state(part("state", move || generation.generation()))
        .final_handoff_state(part("final", || process::id().into()))
        .ready_when(async move {
            follow(plan.as_deref()).await?;
            tokio::spawn(async move {
                gone.predecessor_gone().await;
                Line::say("is alone");
            });
            Ok::<_, Failure>(())
        })
        .serve("http", app(handoff).merge(real))
        .run()
        .await?;
    Ok(report.to_string())
}

async fn run_alone(settings: &Settings, activated: ActivatedListeners) -> Result<String, Failure> {
    let listener = activated.one("http")?;
    let drain = Drain::new();
    let limit = Duration::from_millis(settings.handoff_timeout.unwrap_or(30_000));
    let pending = Handoff::builder(&activated)
        .timeout(limit)
        .handoff_state(part("state", || 0))
        .final_handoff_state(part("final", || process::id().into()))
        .join()
        .await?;
    if let Err(failure) = follow(settings.plan.as_deref()).await {
        pending.fail(&failure);
        return Err(failure);
    }
    let serving = pending.ready(&drain).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let seen = drain.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        seen.start();
    });
    let app = app(serving.handoff()).layer(DrainLayer::new(&drain));
    let served = axum::serve(listener.stop_on(&drain), app)
        .with_graceful_shutdown(drain.started_after(Duration::from_millis(100)));
    let (served, report) = drain.run_server(served, DRAIN_TIMEOUT).await;
    serving.finish().await;
    served.transpose()?;
    Ok(report.to_string())
}

fn app(handoff: Handoff) -> Router {
    let who = handoff.clone();
    Router::new()
        .route(
            "/{id}",
            get(async |UrlPath(id): UrlPath<String>| {
                some_turns().await;
                id
            })
            .post(async |body: Bytes| body),
        )
        .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<PeerAddr>| peer.to_string()))
        .route("/who", get(async move || format!("{} {}", who.generation(), process::id())))
        .route(
            "/handover",
            get(async move || match handoff.start().await {
                Ok(pid) => format!("over to {pid}"),
                Err(error) => format!("failed {error:?}"),
            }),
        )
}

/// A part of the state that holds a number.
fn part(name: &'static str, number: impl Fn() -> u64 + Send + Sync + 'static) -> StatePart {
    StatePart::new(name, move || exported(name, number()), move |snapshot| imported(name, snapshot))
}

async fn exported(name: &'static str, number: u64) -> Result<Snapshot, Failure> {
    Line::say(&format!("exports {name} {number}"));
    Ok(Snapshot::new(3, number.to_string()))
}

async fn imported(name: &'static str, snapshot: Snapshot) -> Result<(), Failure> {
    Line::say(&format!("imports {name} {} version {}", std::str::from_utf8(snapshot.bytes())?, snapshot.version()));
    Ok(())
}

/// Does what the plan says, if there is one.
async fn follow(plan: Option<&Path>) -> Result<(), Failure> {
    let Some(plan) = plan else { return Ok(()) };
    let taken = plan.with_extension(process::id().to_string());
    if fs::rename(plan, &taken).is_err() {
        return Ok(());
    }
    let words = fs::read_to_string(&taken)?;
    Line::say(&format!("plans {words}"));
    match words.split_once(' ') {
        Some(("fail", reason)) => Err(reason.into()),
        _ if words == "wait" => {
            find_async(|| "an end of the wait".to_owned(), || (!taken.exists()).then_some(())).await;
            Ok(())
        }
        _ => std::future::pending().await,
    }
}

fn address(activated: &ActivatedListeners) -> String {
    let addrs = activated.iter().filter(|socket| socket.name() == "http").filter_map(|socket| match socket.addr() {
        Some(ListenAddr::Tcp(addr)) => Some(addr.to_string()),
        _ => None,
    });
    addrs.collect::<Vec<_>>().join(" ")
}
