//! The service under test: the running test binary, started by systemd.

use std::{env, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use axum_activation::{ActivatedListeners, Server, readiness::readiness};

use crate::support::{
    real::routes::{Witness, routes},
    systemd::Systemd,
    wait::some_turns,
};

/// Where it serves.
pub(crate) const ADDRESS: &str = "127.0.0.1:8080";

pub(crate) const UNIT: &str = "app.service";

/// Where it notes what it processes.
pub(crate) const PROCESSED: &str = "/run/processed";

/// How a unit has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    /// A socket unit has the listener; otherwise the service binds it.
    pub(crate) socket: bool,
    /// `FileDescriptorStoreMax=`.
    pub(crate) store: usize,
    /// The program has that number, too, as before systemd 254. Otherwise it asks `$FDSTORE`.
    pub(crate) knows: bool,
    /// More lines of the service section.
    pub(crate) lines: &'static str,
}

impl Default for Unit {
    fn default() -> Self {
        Self { socket: false, store: 512, knows: true, lines: "" }
    }
}

impl Unit {
    /// Boots a systemd and starts the service.
    pub(crate) fn start(self) -> Systemd {
        let Self { socket, store, knows, lines } = self;
        let program = env::current_exe().unwrap();
        let exec = format!("ExecStart={} --exact service --nocapture --test-threads=1 --quiet", program.display());
        let known = if knows { store.to_string() } else { String::new() };
        let requires = if socket { "Requires=app.socket\n" } else { "" };
        let service = format!(
            "[Unit]\nStartLimitIntervalSec=0\n{requires}[Service]\nType=notify\n{exec}\nEnvironment=APP_STORE={known}\n\
             FileDescriptorStoreMax={store}\nNonBlocking=yes\nRestart=on-failure\nRestartSec=0\nTimeoutStopSec=35\n{lines}\n"
        );
        let mut units = vec![(UNIT, service)];
        if socket {
            let text = format!("[Socket]\nListenStream={ADDRESS}\nFileDescriptorName=http\n");
            units.push(("app.socket", text));
        }
        let systemd = Systemd::boot(&units);
        systemd.run(&["systemctl", "start", UNIT]);
        systemd
    }
}

/// The service itself, where that is what this process is.
pub(crate) fn serve() {
    let Ok(store) = env::var("APP_STORE") else { return };
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false).init();
    let activated = ActivatedListeners::builder().fallback("http", ADDRESS).from_env().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = Server::new(activated).serve("http", app()).keep_alive_grace(Duration::from_millis(500));
    let drain = env::var("APP_DRAIN").map_or(30, |seconds| seconds.parse().unwrap());
    let server = server.drain_timeout(Duration::from_secs(drain));
    let server = if store.is_empty() { server } else { server.fd_store(store.parse().unwrap()) };
    let server = server.idle_timeout(Duration::from_secs(600));
    runtime.block_on(server.run()).unwrap();
}

/// Answers with the number of a request, or with its body.
fn app() -> Router {
    let pid: Arc<str> = std::process::id().to_string().into();
    Router::new()
        .route("/pid", get(async move || pid.to_string()))
        .route("/", get("hello"))
        .route("/ready", readiness())
        .route(
            "/slow/{ms}",
            get(async |Path(ms)| {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                ms.to_string()
            }),
        )
        .route(
            "/{id}",
            get(async move |Path(id): Path<u64>| {
                some_turns().await;
                id.to_string()
            }),
        )
        .route(
            "/{id}",
            post(async move |Path(_): Path<u64>, body: String| {
                some_turns().await;
                body
            }),
        )
        .merge(routes(&Witness::open(PROCESSED.as_ref())))
}
