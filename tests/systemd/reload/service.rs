//! The service under test: a copy of the running test binary, under the unit `app-reload.service` as it is shipped.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    Router,
    extract::Path as UrlPath,
    routing::{get, post},
};
use axum_activation::{ActivatedListeners, Drain, Error, Notifier, Server, handoff::Handoff, notify::State};

use crate::support::{
    http::Client,
    needs,
    systemd::{Systemd, has, shipped, shipped_text},
    wait::{eventually, some_turns},
};

/// Where it serves.
pub(crate) const ADDRESS: &str = "127.0.0.1:8080";

pub(crate) const UNIT: &str = "app-reload.service";

/// The working directory that the unit names, if it is there.
pub(crate) const CURRENT: &str = "/run/srv/current";

const PROGRAM: &str = "/run/bin/app";
/// What the next process that starts finds there is why it does not get ready.
const FAULT: &str = "/run/bin/fault";
/// Marks a process that the unit has started, and says how long a handoff may take.
const LIMIT: &str = "APP_HANDOFF_MILLISECONDS";
/// The service is served without `Server`.
pub(crate) const ALONE: &str = "APP_ALONE";

/// How `systemctl reload` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// With `ExecReload=`, which waits and fails.
    ExecReload,
    /// With SIGHUP, by the drop-in that is shipped for systemd 253 and later.
    NotifyReload,
}

impl Way {
    /// Whether the systemd that is booted knows it; says so where it does not.
    pub(crate) fn is_known(self) -> bool {
        self == Self::ExecReload || has("Type=notify-reload", 253)
    }
}

/// A systemd with the service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) systemd: Systemd,
}

impl Service {
    /// Boots a systemd with the shipped units and starts the service; a handoff may take `limit`.
    pub(crate) fn start(way: Way, limit: Duration) -> Self {
        needs::example("handoff_request");
        let (name, text) = shipped(UNIT);
        let exec = format!("\nExecStart={}\n", command());
        let edited = text.replace("\nExecStart=/usr/local/bin/app\n", &exec);
        assert_ne!(edited, text, "the unit starts another program");
        let edited = edited.replace("/srv/app/current", CURRENT);
        let edited = format!("{edited}\n[Service]\nEnvironment={LIMIT}={}\n", limit.as_millis());
        let mut units = vec![(name, edited), shipped("app-reload.socket")];
        if way == Way::NotifyReload {
            units.push(("app-reload.service.d/notify-reload.conf", shipped_text("app-notify-reload.conf")));
        }
        Self::boot(&units)
    }

    /// Boots a systemd with a unit of these settings and without a socket unit, and starts the service, by `exec` with the command of
    /// the program.
    pub(crate) fn start_with(settings: &str, exec: impl FnOnce(&str) -> String) -> Self {
        needs::example("handoff_request");
        let exec = exec(&command());
        let text = format!(
            "[Service]\n{settings}\nExecStart={exec}\nExecReload=/bin/kill -HUP $MAINPID\nRuntimeDirectory=app-reload\n\
             Restart=on-failure\nEnvironment={LIMIT}=30000\n"
        );
        let service = Self::boot(&[(UNIT, text)]);
        // With `Type=simple` it counts as started before that.
        eventually("it serves", || service.inside(|| Client::connect(ADDRESS).is_ok()));
        service
    }

    fn boot(units: &[(&str, String)]) -> Self {
        let systemd = Systemd::boot(units);
        let service = Self { systemd };
        fs::create_dir(service.systemd.path("/run/bin")).unwrap();
        service.install_this();
        service.systemd.run(&["systemctl", "start", UNIT]);
        service
    }

    /// Puts the program in its place: itself.
    pub(crate) fn install_this(&self) {
        self.put(|path| fs::copy(env::current_exe().unwrap(), path).map(drop).unwrap());
    }

    /// Puts a shell script in place of the program.
    pub(crate) fn install(&self, script: &str) {
        self.put(|path| fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap());
    }

    /// Has the next process say that it cannot get ready, and why, or never get there where there is no reason.
    pub(crate) fn plan(&self, fault: &str) {
        fs::write(self.systemd.path(FAULT), fault).unwrap();
    }

    pub(crate) fn forget_plan(&self) {
        fs::remove_file(self.systemd.path(FAULT)).unwrap();
    }

    pub(crate) fn reload(&self) -> Output {
        self.systemd.exec(&["systemctl", "reload", UNIT])
    }

    /// Makes a release and switches the link to it, at once as deploy scripts do.
    pub(crate) fn deploy(&self, release: &str) {
        let current = self.systemd.path(CURRENT);
        fs::create_dir_all(current.with_file_name(release)).unwrap();
        symlink(release, current.with_file_name("new")).unwrap();
        fs::rename(current.with_file_name("new"), current).unwrap();
    }

    /// The working directory of the main process.
    pub(crate) fn directory(&self) -> String {
        self.systemd.run(&["readlink", &format!("/proc/{}/cwd", self.main_pid())]).trim().to_owned()
    }

    pub(crate) fn property(&self, property: &str) -> String {
        self.systemd.property(UNIT, property)
    }

    pub(crate) fn main_pid(&self) -> u32 {
        self.property("MainPID").parse().unwrap()
    }

    /// The process that answers on a connection of its own.
    pub(crate) fn answering(&self) -> u32 {
        self.connect().get("/pid").unwrap().text().parse().unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        self.inside(|| Client::connect(ADDRESS).unwrap())
    }

    /// A connection with a request that takes so many milliseconds and has come to its handler, as the only one there.
    pub(crate) fn ask_slowly(&self, milliseconds: u64) -> Client {
        let mut client = self.connect();
        client.ask(&format!("/slow/{milliseconds}")).unwrap();
        eventually("it is in flight", || self.property("StatusText").contains(" 1 request in flight"));
        client
    }

    pub(crate) fn lives(&self, pid: u32) -> bool {
        self.systemd.path(&format!("/proc/{pid}/exe")).exists()
    }

    pub(crate) fn log(&self) -> String {
        self.systemd.log(UNIT)
    }

    /// Fails where systemd has found anything to complain of.
    #[track_caller]
    pub(crate) fn assert_no_complaint(&self) {
        let console = self.systemd.console();
        for complaint in ["Failed", "timed out", "left-over", "not our child", "reception only permitted", "Killing"] {
            assert!(!console.contains(complaint), "{complaint}:\n{console}\n{}", self.log());
        }
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.systemd.enter_network();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// As an installer does it: what runs keeps its file.
    fn put(&self, write: impl FnOnce(&Path)) {
        let draft: PathBuf = self.systemd.path(&format!("{PROGRAM}.new"));
        write(&draft);
        fs::set_permissions(&draft, PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(draft, self.systemd.path(PROGRAM)).unwrap();
    }
}

/// The command line of the service.
fn command() -> String {
    format!("{PROGRAM} --exact service --nocapture --test-threads=1 --quiet")
}

/// The service itself, where that is what this process is.
pub(crate) fn serve() {
    let Ok(limit) = env::var(LIMIT) else { return };
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false).init();
    let builder = ActivatedListeners::builder().fallback("http", ADDRESS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if env::var_os(ALONE).is_some() {
        return runtime.block_on(serve_alone(&builder.from_env().unwrap())).unwrap();
    }
    let socket = Path::new(&env::var_os("RUNTIME_DIRECTORY").unwrap()).join("handoff.sock");
    let server = Server::new(builder.handoff_socket(socket).from_env().unwrap()).serve("http", app());
    let server = server.handoff_timeout(Duration::from_millis(limit.parse().unwrap())).ready_when(fault());
    let ended = runtime.block_on(server.run());
    runtime.shutdown_background();
    match ended {
        Ok(report) => println!("process {} ends: {report}", std::process::id()),
        Err(error) => {
            println!("process {} fails: {error:?}", std::process::id());
            std::process::exit(1);
        }
    }
}

/// As a program does that says `READY=1` itself.
async fn serve_alone(activated: &ActivatedListeners) -> Result<(), Error> {
    let (listener, drain) = (activated.one("http")?, Drain::new());
    let handoff = Handoff::builder(activated).join().await?.ready(&drain).await?;
    Notifier::from_env().notify([State::Ready]);
    let served =
        axum::serve(listener.stop_on(&drain), app()).with_graceful_shutdown(drain.started_after(Duration::ZERO));
    drain.run_server(served, Duration::from_secs(5)).await;
    handoff.finish().await;
    Ok(())
}

/// What is planned for this process.
async fn fault() -> Result<(), String> {
    match fs::read_to_string(FAULT) {
        Err(_) => Ok(()),
        Ok(reason) if reason.is_empty() => std::future::pending().await,
        Ok(reason) => Err(reason),
    }
}

/// Answers with the number of a request, or with its body.
fn app() -> Router {
    let pid: Arc<str> = std::process::id().to_string().into();
    Router::new()
        .route("/pid", get(async move || pid.to_string()))
        .route(
            "/slow/{ms}",
            get(async move |UrlPath(ms)| {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                ms.to_string()
            }),
        )
        .route(
            "/{id}",
            get(async move |UrlPath(id): UrlPath<u64>| {
                some_turns().await;
                id.to_string()
            }),
        )
        .route(
            "/{id}",
            post(async move |UrlPath(_): UrlPath<u64>, body: String| {
                some_turns().await;
                body
            }),
        )
}
