//! One generation of a service after the other, each a process of its own: all on one listening socket, or each on one that
//! it binds itself.
//!
//! A generation is the running test binary, started once more, with the socket as descriptor 3 if there is one. The test file
//! has one test for it, which does nothing but in such a process:
//!
//! ```ignore
//! #[test]
//! fn generation() {
//!     generation::serve();
//! }
//! ```
#![allow(dead_code, reason = "no test file uses all of it")]

use std::{
    collections::HashMap,
    env, fmt,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use axum_activation::{ActivatedListeners, Server, drain::DrainReport, readiness::readiness};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// Stands before every line that a generation says, as it shares standard output with the test harness.
const MARK: &str = "\u{1}generation ";

/// The listening socket comes as standard input and goes to its place; the shell's pid is that of the program it becomes.
const PASS: &str = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http; exec \"$@\"";

/// Where a generation listens, and how it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) addr: SocketAddr,
    pub(crate) lame_duck: Duration,
    pub(crate) keep_alive_grace: Duration,
}

/// A process that serves; killed when dropped.
#[derive(Debug)]
pub(crate) struct Generation {
    process: Child,
    said: BufReader<ChildStdout>,
}

/// What a generation said of itself at its end.
#[derive(Debug)]
pub(crate) struct Epitaph {
    /// Its drain report, as printed.
    pub(crate) report: String,
    /// The number of every request that reached a handler, in that order.
    pub(crate) processed: Vec<u64>,
}

/// What all generations together have processed.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    pub(crate) epitaphs: Vec<Epitaph>,
}

impl Generation {
    /// Starts one, and returns when it accepts.
    pub(crate) fn start(socket: &TcpListener) -> Self {
        let socket = OwnedFd::from(socket.try_clone().expect("a copy of the listening socket"));
        let mut command = Command::new("sh");
        command.args(["-c", PASS, "sh"]).arg(this_program()).stdin(socket);
        Self::spawn(&mut command)
    }

    /// Starts one that binds its socket itself, and returns when it accepts.
    pub(crate) fn start_alone(settings: &Settings) -> Self {
        let mut command = Command::new(this_program());
        command.env("GENERATION_SETTINGS", settings.to_string()).stdin(Stdio::null());
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> Self {
        command.args(["--exact", "generation", "--nocapture", "--test-threads=1", "--quiet"]);
        command.env("GENERATION", "1").env_remove("LISTEN_PIDFDID").env_remove("NOTIFY_SOCKET");
        let mut process = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let said = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut generation = Self { process, said };
        assert_eq!(generation.hear(), "serves");
        generation
    }

    /// Ends it with SIGTERM, and waits for its end, which must be a good one.
    pub(crate) fn drain(mut self) -> Epitaph {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("it runs");
        self.end()
    }

    /// Tells it to drain.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("it runs");
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn end(&mut self) -> Epitaph {
        let report = self.hear();
        let processed = self.hear();
        let processed = processed.split_ascii_whitespace().map(|id| id.parse().expect("a number")).collect();
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "{status} after {report}");
        Epitaph { report, processed }
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        while self.said.read_line(&mut line).expect("what it says is text") > 0 {
            if let Some(said) = line.strip_prefix(MARK) {
                return said.trim_end().to_owned();
            }
            line.clear();
        }
        panic!("a generation ended without a word: {:?}", self.process.wait());
    }
}

/// As the words of one variable of the environment.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.addr, self.lame_duck.as_millis(), self.keep_alive_grace.as_millis())
    }
}

impl Settings {
    fn from_words(words: &str) -> Option<Self> {
        let mut words = words.split(' ');
        let addr = words.next()?.parse().ok()?;
        let mut time = || words.next()?.parse().ok().map(Duration::from_millis);
        Some(Self { addr, lame_duck: time()?, keep_alive_grace: time()? })
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Epitaph {
    /// How many connections ended like that, as the report says: "errors" or "aborted".
    pub(crate) fn connections(&self, how: &str) -> u64 {
        let count = self.report.split([',', ';']).find_map(|part| part.trim().strip_suffix(how));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no {how} in {}", self.report))
    }
}

impl Chronicle {
    pub(crate) fn add(&mut self, epitaph: Epitaph) {
        self.epitaphs.push(epitaph);
    }

    /// How often each request was processed.
    pub(crate) fn times(&self) -> HashMap<u64, u32> {
        let mut times = HashMap::new();
        for id in self.epitaphs.iter().flat_map(|epitaph| &epitaph.processed) {
            *times.entry(*id).or_default() += 1;
        }
        times
    }

    /// Fails where a generation has aborted a connection, or seen one end with an error.
    pub(crate) fn assert_clean(&self) {
        for epitaph in &self.epitaphs {
            assert_eq!((epitaph.connections("errors"), epitaph.connections("aborted")), (0, 0), "{}", epitaph.report);
        }
    }

    /// Fails unless every request up to `last` was processed, once.
    pub(crate) fn assert_each_once(&self, last: u64) {
        let times = self.times();
        let wrong: Vec<_> = (1..=last).filter(|id| times.get(id) != Some(&1)).collect();
        assert!(wrong.is_empty(), "not processed exactly once: {wrong:?}");
        assert_eq!(times.len() as u64, last, "requests that nobody sent");
    }
}

/// The process of a generation: serves until SIGTERM.
pub(crate) fn serve() {
    if env::var_os("GENERATION").is_none() {
        return;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).expect("it may end with its parent");
    let settings: Option<Settings> =
        env::var("GENERATION_SETTINGS").ok().map(|settings| Settings::from_words(&settings).expect("settings"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let processed = Arc::default();
    let report = runtime.expect("a runtime").block_on(run(settings, &processed));
    say(&report.to_string());
    let processed = processed.lock().expect("no handler panics");
    say(&processed.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
}

async fn run(settings: Option<Settings>, processed: &Arc<Mutex<Vec<u64>>>) -> DrainReport {
    let sockets = ActivatedListeners::builder();
    let activated = match settings {
        None => sockets.from_env(),
        Some(Settings { addr, .. }) => sockets.fallback("http", addr.to_string()).build(),
    };
    let activated = activated.expect("a socket");
    let mut server = Server::new(activated).serve("http", service(processed)).drain_timeout(Duration::from_secs(20));
    if let Some(Settings { lame_duck, keep_alive_grace, .. }) = settings {
        server = server.lame_duck(lame_duck).keep_alive_grace(keep_alive_grace);
    }
    // The first poll of the server begins to accept.
    let (report, ()) = tokio::join! { biased; server.run(), async { say("serves") } };
    report.expect("it serves")
}

/// Answers with the number of a request, or with its body.
fn service(processed: &Arc<Mutex<Vec<u64>>>) -> Router {
    let note = |processed: &Arc<Mutex<Vec<u64>>>| {
        let processed = Arc::clone(processed);
        async move |id| {
            processed.lock().expect("no handler panics").push(id);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (asked, sent) = (note(processed), note(processed));
    Router::new()
        .route("/", get("hello"))
        .route("/ready", readiness())
        .route(
            "/{id}",
            get(async move |Path(id)| {
                asked(id).await;
                id.to_string()
            }),
        )
        .route(
            "/{id}",
            post(async move |Path(id), body: String| {
                sent(id).await;
                body
            }),
        )
}

fn this_program() -> PathBuf {
    env::current_exe().expect("a test program has a path")
}

fn say(line: &str) {
    // One write, so that nothing of the harness comes between.
    print!("\n{MARK}{line}\n");
}
