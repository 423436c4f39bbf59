//! A service that hands over to the next generation of itself, each a process, and that does at any step what a test asks for.
//!
//! Every generation is the running test binary, started once more. What a test plans for a step stands in a file of the step's
//! name, in the folder that all generations know; the first process that comes to that step takes the file away and does it:
//!
//! | plan | what the process does |
//! | --- | --- |
//! | `fail REASON` | fails in that step |
//! | `exit STATUS`, `abort` | ends at once, in order or not |
//! | `kill PID`, `kill self` | ends another process, or itself, with SIGKILL |
//! | `panic` | panics in that step |
//! | `unprintable` | fails in that step with an error that panics when it is printed |
//! | `hang` | goes no further |
//! | `wait` | goes on when the test writes to the FIFO beside the plan |
//! | `limit FILES` | may open no more files than that, from then on |
//! | `peer ARGUMENT..` | becomes the Python program beside this file (in step `start`) |
//! | `drop NAME` | serves no route of that name (in step `routes`) |
//!
//! With the setting `make=1` routes are make-services, which come to the step `make` with each connection.
//!
//! What it says goes to standard output, which every generation inherits: the end of that is the end of the last of them. When
//! standard input ends, so does every generation.

use std::{
    convert::Infallible,
    env,
    error::Error,
    fmt,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    pin::Pin,
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path as UrlPath, State},
    routing::{get, post},
};
use axum_activation::{
    ActivatedListeners, ListenAddr, Server,
    drain::DrainReport,
    handoff::{Handoff, Snapshot, StatePart},
    server::{Http2Options, IncomingConnection, ServeOptions},
};
use rustix::{
    process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit},
    time::{ClockId, clock_gettime},
};
use tokio::{io::AsyncReadExt, net::unix::pipe, task::spawn_blocking};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    Layer,
    fmt::{format::Writer, time::FormatTime},
    layer::{self, SubscriberExt},
    util::SubscriberInitExt,
};

use super::{
    kept, lasting,
    real::routes::{Witness, routes},
    subprocess::{ChildIo, Line},
    wait::some_turns,
};

/// Where all generations find the name of their folder.
pub(crate) const FOLDER: &str = "SUCCESSIVE_FOLDER";
/// Settings that hold for all generations: `name=value`, separated by blanks.
pub(crate) const SETTINGS: &str = "SUCCESSIVE_SETTINGS";
/// The file to which the number of every request is written that comes to a handler.
pub(crate) const PROCESSED: &str = "processed";

const PEER: &str = concat!(include_str!("protocol.py"), include_str!("peer.py"));

type Failure = Box<dyn Error + Send + Sync>;

/// What a generation works with.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) folder: Arc<Path>,
    pub(crate) handoff: Handoff,
    processed: Witness,
    /// Requests of all generations, as far as is known here.
    count: Arc<AtomicU64>,
}

/// The process of a generation: serves until it has handed over or is asked to end.
pub(crate) fn serve(_: &ChildIo) {
    let folder = PathBuf::from(env::var_os(FOLDER).expect("the folder of the service"));
    Line::say("starts");
    Line::say(&format!("holds descriptors {}", descriptors()));
    Line::say(&format!("may open {:?}", getrlimit(Resource::Nofile).current));
    if setting("panicking_layer") == Some(1) {
        tracing_subscriber::registry().with(PanickingLayer).init();
    } else {
        let log = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_timer(LoggedBy);
        log.with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).init();
    }
    if let Err(failure) = Plan::take(&folder, "start").map_or(Ok(()), |plan| plan.follow()) {
        Line::say(&format!("fails {failure}"));
        process::exit(1);
    }
    let mut runtime = match setting("current_thread") {
        Some(1) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    let ended = runtime.block_on(run(folder.into()));
    runtime.shutdown_background();
    match ended {
        Ok(report) => Line::say(&format!("ends {report}")),
        Err(failure) => {
            Line::say(&format!("fails {failure}"));
            process::exit(1);
        }
    }
}

async fn run(folder: Arc<Path>) -> Result<DrainReport, Failure> {
    let dropped = Plan::take(&folder, "routes").and_then(|plan| plan.words.strip_prefix("drop ").map(str::to_owned));
    let names: Vec<_> = names().into_iter().filter(|name| Some(name) != dropped.as_ref()).collect();
    let mut builder = ActivatedListeners::builder();
    for name in &names {
        builder = builder.fallback(name, "127.0.0.1:0");
    }
    let bare = setting("bare");
    if bare.is_some() {
        builder = builder.fallback("bare", folder.join("bare.sock"));
    }
    let activated = builder.from_env()?;
    let _bare = bare.map(|shared| take_bare(&activated, shared == 1)).transpose()?;
    for name in &names {
        Line::say(&format!("listens {name} {}", address(&activated, name)));
    }
    let mut server = Server::new(activated);
    let processed = Witness::open(&folder.join(PROCESSED));
    let work = Work { folder: Arc::clone(&folder), handoff: server.handoff(), processed, count: Arc::default() };
    for name in names {
        server = match setting("make") {
            Some(_) => server.serve(name, make_service(&work)),
            None if setting("until_done").is_some() => {
                server.serve_with(name, service(&work), ServeOptions::new().until_done())
            }
            None => server.serve(name, service(&work)),
        };
    }
    Ok(with_hooks(configured(server), &work).run().await?)
}

/// Takes a socket as a bare descriptor, and shares it with the next process or not.
fn take_bare(activated: &ActivatedListeners, is_shared: bool) -> Result<Vec<OwnedFd>, Failure> {
    let files = activated.files("bare")?;
    if is_shared {
        files.iter().try_for_each(|file| activated.pass_to_successor("bare", file))?;
    }
    Ok(files)
}

fn configured(mut server: Server) -> Server {
    let milliseconds = |name| setting(name).map(Duration::from_millis);
    server = server.drain_timeout(milliseconds("drain_timeout").unwrap_or(Duration::from_secs(20)));
    if let Some(grace) = milliseconds("keep_alive_grace") {
        server = server.keep_alive_grace(grace);
    }
    if let Some(limit) = milliseconds("header_timeout") {
        server = server.header_timeout(limit);
    }
    if let Some(limit) = milliseconds("idle_timeout") {
        server = server.idle_timeout(limit);
    }
    if let Some(age) = milliseconds("max_age") {
        server = server.max_connection_age(age, Duration::ZERO);
    }
    if let Some(limit) = milliseconds("handoff_timeout") {
        server = server.handoff_timeout(limit);
    }
    if let Some(window) = setting("window") {
        let window = u32::try_from(window).expect("a window");
        server = server.http2(Http2Options::new().initial_stream_window(window));
    }
    if let Some(allowed) = setting("by_spawn") {
        server = server.handoff_by_spawn(allowed > 0);
    }
    if let (Some(name), Some(folder)) = (word("successor_directory"), env::var_os(FOLDER)) {
        server = server.successor_directory(Path::new(&folder).join(name));
    }
    if let Some(most) = setting("max_draining") {
        server = server.max_draining(u32::try_from(most).expect("a small number"));
    }
    if setting("handoff_signals") == Some(0) {
        server = server.without_handoff_signals();
    }
    server
}

fn with_hooks(server: Server, work: &Work) -> Server {
    let at = |step: &'static str| {
        let folder = Arc::clone(&work.folder);
        move || reach(Arc::clone(&folder), step)
    };
    let (export, import, export_final, import_final) =
        (at("export"), at("import"), at("export-final"), at("import-final"));
    let (counted, added) = (Arc::clone(&work.count), Arc::clone(&work.count));
    let gone = work.handoff.clone();
    let (ready, folder) = (at("ready"), Arc::clone(&work.folder));
    let size = usize::try_from(setting("state").unwrap_or(3)).expect("it fits into memory");
    server
        .before_handoff(at("before"))
        .on_handoff_failure(move |error| {
            Line::say(&format!("failed {error}"));
            assert!(Plan::take(&folder, "failed").is_none(), "as planned");
        })
        .handoff_state(StatePart::new(
            "numbers",
            move || {
                let export = export();
                async move { export.await.map(|()| Snapshot::new(7, numbers(size))) }
            },
            move |snapshot| async move {
                import().await?;
                Line::say(&format!("imports {} version {}", snapshot.bytes().len(), snapshot.version()));
                if snapshot.bytes()[..] == numbers(size) {
                    Ok(())
                } else {
                    Err(Failure::from("the state has changed on its way"))
                }
            },
        ))
        .final_handoff_state(StatePart::new(
            "count",
            move || {
                let (export, counted) = (export_final(), Arc::clone(&counted));
                async move { export.await.map(|()| counted.load(Relaxed).to_le_bytes().to_vec()) }
            },
            move |snapshot| async move {
                import_final().await?;
                added.fetch_add(u64::from_le_bytes(snapshot.bytes()[..].try_into()?), Relaxed);
                Line::say("has the final state");
                Ok::<_, Failure>(())
            },
        ))
        .ready_when(async move {
            ready().await?;
            tokio::spawn(async move {
                gone.predecessor_gone().await;
                Line::say("is alone");
            });
            Ok::<_, Failure>(())
        })
}

fn service(work: &Work) -> Router {
    Router::new()
        .route("/{id}", get(ask).post(send))
        .route("/who", get(async |State(work): State<Work>| format!("{} {}", work.handoff.generation(), process::id())))
        .route("/count", get(async |State(work): State<Work>| work.count.load(Relaxed).to_string()))
        .route("/handover", post(hand_over))
        .route("/tasks/{room}", get(async |UrlPath(room): UrlPath<u64>| limit_tasks(room)))
        .route("/child", get(async || child()))
        .route("/gone", get(async |State(work): State<Work>| work.handoff.predecessor_gone().await))
        .route("/slow/{gate}/{id}", get(slow))
        .merge(lasting::routes())
        .with_state(work.clone())
        .merge(routes(&work.processed))
        .merge(kept::routes())
}

/// A make-service that follows the plan for `make` at each connection.
fn make_service(
    work: &Work,
) -> impl for<'a> tower::Service<
    IncomingConnection<'a>,
    Response = Router,
    Error = Infallible,
    Future = Pin<Box<dyn Future<Output = Result<Router, Infallible>> + Send>>,
> + Send
+ 'static {
    let (folder, app) = (Arc::clone(&work.folder), service(work));
    tower::service_fn(
        move |_: IncomingConnection<'_>| -> Pin<Box<dyn Future<Output = Result<Router, Infallible>> + Send>> {
            let (folder, app) = (Arc::clone(&folder), app.clone());
            Box::pin(async move {
                reach(folder, "make").await.expect("as planned");
                Ok(app)
            })
        },
    )
}

async fn ask(State(work): State<Work>, UrlPath(id): UrlPath<u64>) -> String {
    work.note(id).await;
    id.to_string()
}

async fn send(State(work): State<Work>, UrlPath(id): UrlPath<u64>, body: Bytes) -> Bytes {
    work.note(id).await;
    body
}

/// Answers when the gate opens.
async fn slow(State(work): State<Work>, UrlPath((gate, id)): UrlPath<(String, u64)>) -> String {
    work.note(id).await;
    Line::say(&format!("holds {gate}"));
    wait_at(&work.folder.join(gate)).await.expect("a FIFO");
    id.to_string()
}

async fn hand_over(State(work): State<Work>) -> String {
    match work.handoff.start().await {
        Ok(pid) => format!("over to {pid}"),
        Err(error) => format!("failed {} {error}", error.is_handoff_failure() || error.is_start_failure()),
    }
}

/// Lets the user of this process have so many processes and threads more than now, zombies included.
fn limit_tasks(room: u64) {
    let user = rustix::process::getuid().as_raw();
    let entries = fs::read_dir("/proc").expect("procfs").flatten().map(|entry| entry.path());
    // Not `self`, which would count this process twice.
    let is_own = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|file| file.is_dir() && file.uid() == user);
    let count = |path: PathBuf| fs::read_dir(path.join("task")).map_or(0, Iterator::count) as u64;
    let tasks: u64 = entries.filter(is_own).map(count).sum();
    let limit = Rlimit { current: Some(tasks + room), ..getrlimit(Resource::Nproc) };
    setrlimit(Resource::Nproc, limit).expect("a soft limit");
}

/// What a child of the service has from it: its limit of open files and its signals.
fn child() -> String {
    let looks = "ulimit -Sn; exec grep -E 'SigBlk|SigIgn' /proc/self/status";
    let looked = Command::new("sh").args(["-c", looks]).output().expect("sh runs");
    String::from_utf8(looked.stdout).expect("text")
}

impl Work {
    /// Notes that a request is being processed: what stands in the file is there whatever becomes of this process.
    async fn note(&self, id: u64) {
        self.processed.note(id);
        self.count.fetch_add(1, Relaxed);
        some_turns().await;
    }
}

/// Names the process in front of what it logs, and when that was.
struct LoggedBy;

impl FormatTime for LoggedBy {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = clock_gettime(ClockId::Monotonic);
        write!(writer, "{} {}.{:06}", process::id(), now.tv_sec, now.tv_nsec / 1000)
    }
}

/// A subscriber that panics at each event.
struct PanickingLayer;

impl<S: Subscriber> Layer<S> for PanickingLayer {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        panic!("as planned at an event of {}", event.metadata().target());
    }
}

/// An error that panics when it is printed.
#[derive(Debug)]
struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("as planned at an error");
    }
}

impl Error for Unprintable {}

/// What is to be done in a step.
struct Plan {
    step: String,
    words: String,
    folder: PathBuf,
}

impl Plan {
    /// The plan for that step, if there is one; no other process will follow it.
    fn take(folder: &Path, step: &str) -> Option<Self> {
        let taken = folder.join(format!("{step}.taken.{}", process::id()));
        fs::rename(folder.join(step), &taken).ok()?;
        let words = fs::read_to_string(taken).expect("a plan is text");
        Some(Self { step: step.to_owned(), words, folder: folder.to_owned() })
    }

    /// Does what it says, on this thread.
    fn follow(&self) -> Result<(), Failure> {
        let (verb, rest) = self.words.split_once(' ').unwrap_or((&self.words, ""));
        Line::say(&format!("at {} {}", self.step, self.words));
        match verb {
            "fail" => Err(rest.into()),
            "exit" => process::exit(rest.parse().expect("a status")),
            "abort" => process::abort(),
            "kill" => {
                let pid = if rest == "self" { process::id().try_into()? } else { rest.parse()? };
                kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).map_err(Into::into)
            }
            "hang" => loop {
                thread::park();
            },
            "wait" => {
                File::open(self.folder.join(format!("{}.gate", self.step)))?.read_exact(&mut [0]).map_err(Into::into)
            }
            "limit" => {
                let most = Some(rest.parse().expect("a number"));
                setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).map_err(Into::into)
            }
            "peer" => Err(Command::new("python3").args(["-c", PEER]).args(rest.split(' ')).exec().into()),
            _ => panic!("no plan: {}", self.words),
        }
    }
}

/// Follows the plan for `step`, if there is one.
async fn reach(folder: Arc<Path>, step: &'static str) -> Result<(), Failure> {
    match Plan::take(&folder, step) {
        None => Ok(()),
        Some(plan) if plan.words == "hang" => {
            Line::say(&format!("at {step} hang"));
            std::future::pending().await
        }
        Some(plan) if plan.words == "panic" => panic!("as planned at {step}"),
        Some(plan) if plan.words == "unprintable" => Err(Box::new(Unprintable)),
        Some(plan) => spawn_blocking(move || plan.follow()).await?,
    }
}

async fn wait_at(fifo: &Path) -> io::Result<()> {
    let mut gate = pipe::OpenOptions::new().read_write(true).open_receiver(fifo)?;
    gate.read_u8().await.map(drop)
}

/// The names of the routes.
fn names() -> Vec<String> {
    let settings = env::var(SETTINGS).unwrap_or_default();
    let names = settings.split(' ').find_map(|setting| setting.strip_prefix("names="));
    names.unwrap_or("http").split(',').map(str::to_owned).collect()
}

fn setting(name: &str) -> Option<u64> {
    word(name).map(|value| value.parse().expect("a number"))
}

fn word(name: &str) -> Option<String> {
    let settings = env::var(SETTINGS).unwrap_or_default();
    let setting = settings.split(' ').find_map(|setting| setting.strip_prefix(name)?.strip_prefix('='));
    setting.map(str::to_owned)
}

fn address(activated: &ActivatedListeners, name: &str) -> String {
    let socket = activated.iter().find(|socket| socket.name() == name);
    match socket.and_then(|socket| socket.addr().cloned()) {
        Some(ListenAddr::Tcp(addr)) => addr.to_string(),
        other => panic!("no TCP address: {other:?}"),
    }
}

/// The numbers of all that is open.
fn descriptors() -> String {
    let fds = fs::read_dir("/proc/self/fd").expect("procfs").map(|fd| fd.expect("procfs").file_name());
    let mut fds: Vec<u32> = fds.map(|fd| fd.to_str().and_then(|fd| fd.parse().ok()).expect("a number")).collect();
    // The one that reads the directory is gone.
    fds.retain(|fd| Path::new(&format!("/proc/self/fd/{fd}")).exists());
    fds.sort_unstable();
    fds.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// So many bytes that are easy to tell from others.
fn numbers(size: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(size).collect()
}
