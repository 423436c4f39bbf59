//! The processes of a service, from outside.

use std::{
    env,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::process::Settings;
use crate::support::{
    clients::{Clients, Habit},
    http::Client,
    needs, process,
    subprocess::{Line, Subprocess},
    wait::find,
};

/// The first process of a pid namespace, in a mount namespace in which the folder is found at a path that no other one has.
const CONTAINER: &str =
    r#"mount -t tmpfs none /mnt && mkdir /mnt/"$2" && mount --bind "$1" /mnt/"$2" && shift 2 && exec "$@""#;

/// A process that was started here, and all that it starts; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(process::Process<Line>);

impl Process {
    pub(crate) fn start(settings: &Settings) -> Self {
        Self::run(subprocess(settings))
    }

    pub(crate) fn run(subprocess: Subprocess) -> Self {
        Self(subprocess.spawn(Line::parse))
    }

    /// Starts it in a container of that name, in which `folder` is `/mnt/NAME`.
    pub(crate) fn start_in_container(settings: &Settings, folder: &Path, name: &str) -> Self {
        needs_root("namespaces");
        needs::program("unshare", "util-linux");
        let unshare =
            ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child", "sh", "-c", CONTAINER, "sh"];
        Self::run(subprocess(settings).command(words(unshare, [folder.into(), name.into(), this_program()])))
    }

    /// Starts it in a container by this script, which is given the program and its arguments and is the container's init.
    pub(crate) fn start_under_init(settings: &Settings, script: &str) -> Self {
        needs_root("namespaces");
        needs::program("unshare", "util-linux");
        let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", script, "init"];
        Self::run(subprocess(settings).command(words(unshare, [this_program()])))
    }

    /// Returns when a process has said a line that begins so: the rest of it. Nothing that is said twice is found twice.
    #[track_caller]
    pub(crate) fn hear(&self, begins: &str) -> String {
        self.0.take(|line| line.text.starts_with(begins)).text[begins.len()..].trim().to_owned()
    }

    /// The address at which it listens.
    #[track_caller]
    pub(crate) fn addr(&self) -> SocketAddr {
        self.hear("listens ").parse().expect("one address")
    }

    /// Waits for its end, which must be a good one, at which it has closed or cut nothing.
    #[track_caller]
    pub(crate) fn moved_out(mut self) {
        let report = self.hear("ends ");
        assert!(report.contains(" 0 closed idle, 0 errors, 0 aborted"), "{report}");
        assert!(self.status().success());
    }

    /// Waits for its end, which must be in order.
    #[track_caller]
    pub(crate) fn ended(mut self) {
        self.hear("ends ");
        assert!(self.status().success());
    }

    /// Returns when it has taken over and is the only one, or has failed: the reason.
    pub(crate) fn takes_over(&self) -> Result<(), String> {
        let line = self.0.take(|line| line.text == "is alone" || line.text.starts_with("fails "));
        line.text.strip_prefix("fails ").map_or(Ok(()), |reason| Err(reason.to_owned()))
    }

    /// Waits until it fails: the reason.
    #[track_caller]
    pub(crate) fn failed(mut self) -> String {
        let reason = self.hear("fails ");
        assert_eq!(self.status().code(), Some(1));
        reason
    }

    pub(crate) fn status(&mut self) -> ExitStatus {
        self.0.status()
    }

    /// Its process id; that of `unshare` for a container.
    pub(crate) fn pid(&self) -> Pid {
        self.0.pid()
    }

    /// PID 1 of a container, as it is called out here.
    pub(crate) fn first_in_container(&self) -> Pid {
        let unshare = self.pid().as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        Pid::from_raw(children.trim().parse().unwrap()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) generation: u64,
    pub(crate) pid: i32,
}

impl Who {
    pub(crate) fn signal(self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid).unwrap(), signal).unwrap();
    }
}

/// Asks on a connection of its own.
#[track_caller]
pub(crate) fn get(addr: SocketAddr, path: &str) -> String {
    let answer = Client::connect(addr).expect("it listens").get(path).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}

#[track_caller]
pub(crate) fn who(addr: SocketAddr) -> Who {
    let answer = get(addr, "/who");
    let (generation, pid) = answer.split_once(' ').expect("two words");
    Who { generation: generation.parse().expect("a number"), pid: pid.parse().expect("a pid") }
}

/// Returns when the process of that generation answers.
#[track_caller]
pub(crate) fn wait_for_generation(addr: SocketAddr, generation: u64) -> Who {
    find(
        || format!("{:?} still answers, and not generation {generation}", who(addr)),
        || Some(who(addr)).filter(|who| who.generation == generation),
    )
}

/// A folder that all may pass through.
pub(crate) fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Is met at that path.
pub(crate) fn met(path: impl Into<PathBuf>) -> Settings {
    Settings { met: Some(path.into()), ..Settings::default() }
}

pub(crate) fn subprocess(settings: &Settings) -> Subprocess {
    let subprocess = Subprocess::new("serve").arg(serde_json::to_string(settings).unwrap());
    if settings.passed { subprocess.own_pid() } else { subprocess }
}

pub(crate) fn this_program() -> OsString {
    env::current_exe().unwrap().into()
}

pub(crate) fn words<const N: usize, const M: usize>(first: [&str; N], then: [OsString; M]) -> Vec<OsString> {
    first.into_iter().map(OsString::from).chain(then).collect()
}

#[track_caller]
pub(crate) fn needs_root(what: &str) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, for {what}");
}

/// Does it while clients open a connection for each request; none of these may be refused or lost.
#[track_caller]
pub(crate) fn under_load_of_new_connections(addr: SocketAddr, act: impl FnOnce(&Clients)) {
    let clients = Clients::new(addr, Habit { opens: true, ..Habit::default() });
    thread::scope(|scope| {
        let _stop = clients.stop_on_drop();
        (0..8).for_each(|_| drop(scope.spawn(|| clients.run())));
        clients.wait_for(50);
        act(&clients);
        clients.wait_for(50);
    });
    let outcome = clients.outcome().clone();
    assert!(outcome.lost.is_empty(), "lost requests: {:#?}", outcome.lost);
    assert_eq!(outcome.answered, clients.sent());
}
