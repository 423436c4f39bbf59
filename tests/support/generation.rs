//! One generation of a service after the other, each a process of its own: all on one listening socket, or each on one that
//! it binds itself.
//!
//! A generation is a subprocess that runs [`serve`].

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use axum_activation::{ActivatedListeners, Server, drain::DrainReport, readiness::readiness};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{
    subprocess::{Child, ChildIo, Subprocess},
    wait::some_turns,
};

/// Where a generation listens, and how it ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) addr: SocketAddr,
    pub(crate) lame_duck: Duration,
    pub(crate) keep_alive_grace: Duration,
}

/// A process that serves; killed when dropped.
#[derive(Debug)]
pub(crate) struct Generation(Child);

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
        Self::begin(Subprocess::passed("generation", [("http", socket)]), None)
    }

    /// Starts one that binds its socket itself, and returns when it accepts.
    pub(crate) fn start_alone(settings: &Settings) -> Self {
        Self::begin(Subprocess::new("generation"), Some(settings))
    }

    fn begin(subprocess: Subprocess, settings: Option<&Settings>) -> Self {
        let mut child = subprocess.arg(serde_json::to_string(&settings).expect("JSON")).start();
        assert_eq!(child.hear::<String>(), "serves");
        Self(child)
    }

    /// Ends it with SIGTERM, and waits for its end, which must be a good one.
    pub(crate) fn drain(mut self) -> Epitaph {
        self.terminate();
        self.end()
    }

    /// Asks it to drain.
    pub(crate) fn terminate(&self) {
        self.0.signal(Signal::TERM);
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn end(&mut self) -> Epitaph {
        let epitaph = Epitaph { report: self.0.hear(), processed: self.0.hear() };
        let status = self.0.wait();
        assert!(status.success(), "{status} after {}", epitaph.report);
        epitaph
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
        assert_eq!(times.len() as u64, last, "requests that no client sent");
    }
}

/// The process of a generation: serves until SIGTERM.
pub(crate) fn serve(io: &ChildIo) {
    let settings: Option<Settings> = serde_json::from_str(&io.arg()).expect("settings");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let processed = Arc::default();
    let report = runtime.expect("a runtime").block_on(run(settings, &processed));
    io.say(report.to_string());
    io.say(&*processed.lock().expect("no handler panics"));
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
    let (report, ()) = tokio::join! { biased; server.run(), async { ChildIo.say("serves") } };
    report.expect("it serves")
}

/// Answers with the number of a request, or with its body.
fn service(processed: &Arc<Mutex<Vec<u64>>>) -> Router {
    let note = |processed: &Arc<Mutex<Vec<u64>>>| {
        let processed = Arc::clone(processed);
        async move |id| {
            processed.lock().expect("no handler panics").push(id);
            some_turns().await;
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
