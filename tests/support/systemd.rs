//! A private, real systemd: PID 1 of process, mount, network and cgroup namespaces of its own, gone with the test.
//!
//! The machine's own, or that of the root tree in `SYSTEMD_ROOT`: `systemd-harness.sh` says how to make one.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{self, Command, Output},
    thread,
};

use tempfile::TempDir;

use super::{needs, place::Place, wait::LIMIT};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/systemd-harness.sh");
/// What a systemd of 257 and later complains of in a namespace, whatever it runs.
const MISSED: [&str; 3] =
    ["Failed to initialize kmod context", "Failed to open libbpf", "Failed to read pids.max for control group"];
/// The variable that names the root tree of another systemd.
const ROOT: &str = "SYSTEMD_ROOT";
const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/systemd");

/// A systemd that runs; dropping it stops its units and ends it.
#[derive(Debug)]
pub(crate) struct Systemd {
    dir: TempDir,
    pid: u32,
}

impl Systemd {
    /// Boots with these units and drop-ins, by file name (or `UNIT.d/NAME.conf`) and text. Every `.socket` among them is started; the examples are in
    /// `/usr/local/bin`.
    pub(crate) fn boot(units: &[(&str, String)]) -> Self {
        check_needs();
        let dir = tempfile::tempdir().expect("a directory for the units");
        let units_dir = dir.path().join("units");
        fs::create_dir(&units_dir).expect("a directory for the units");
        for (name, text) in units {
            let path = units_dir.join(name);
            fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory for drop-ins");
            fs::write(path, text).expect("a unit file");
        }
        let examples = format!("{}:/usr/local/bin", needs::examples().display());
        let owner = process::id().to_string();
        let mut start = Command::new(SCRIPT);
        // This very program may be the service, and /tmp is another one inside.
        let own = own_directory();
        start.args(["start", "--bind-ro", &examples, "--bind-ro", &own, "--owner", &owner]);
        if let Some(root) = root() {
            start.arg("--root").arg(root);
        }
        start.arg(&units_dir).arg(state(&dir));
        succeed(&start.output().expect("the script of the harness runs"), "no systemd could be booted");
        let pid = fs::read_to_string(state(&dir).join("systemd.pid")).expect("the pid of systemd");
        let pid = pid.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a pid");
        Self { dir, pid }
    }

    /// Runs a command inside and waits for it, or ends it after twice the limit.
    pub(crate) fn exec(&self, command: &[&str]) -> Output {
        self.command(command).output().expect("the script of the harness runs")
    }

    /// A command that runs inside, and is ended after twice the limit.
    pub(crate) fn command(&self, command: &[&str]) -> Command {
        let mut exec = Command::new(SCRIPT);
        let limit = (2 * LIMIT).as_secs().to_string();
        exec.arg("exec").arg(state(&self.dir)).args(["--", "timeout", &limit]).args(command);
        exec
    }

    /// As [`exec`](Self::exec): what it printed, without the last newline; fails unless it succeeds.
    pub(crate) fn run(&self, command: &[&str]) -> String {
        let output = self.exec(command);
        succeed(&output, &format!("{command:?} failed, and the manager said\n{}", self.console()));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// What `curl` gets, run inside.
    pub(crate) fn curl(&self, args: &[&str]) -> String {
        self.run(&[&["curl", "-sS", "--max-time", "30"], args].concat())
    }

    /// A property of a unit, as `systemctl show` tells it.
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// What a service printed.
    pub(crate) fn log(&self, service: &str) -> String {
        let log = state(&self.dir).join("log").join(format!("{service}.log"));
        fs::read_to_string(log).unwrap_or_default()
    }

    /// What the manager said, but for what it misses in a namespace.
    pub(crate) fn console(&self) -> String {
        let said = fs::read_to_string(state(&self.dir).join("console.log")).unwrap_or_default();
        let is_missed = |line: &&str| MISSED.iter().any(|missed| line.contains(missed));
        said.lines().filter(|line| !is_missed(line)).fold(String::new(), |said, line| said + line + "\n")
    }

    /// A path inside, as it is reached from here.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    /// The network inside.
    pub(crate) fn network(&self) -> Place {
        Place::of(self.pid)
    }

    /// Moves this thread, for good, into the network inside.
    pub(crate) fn enter_network(&self) {
        self.network().enter();
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Whatever is left after a failure here ends with this process, which is its owner.
        let _ = Command::new(SCRIPT).arg("stop").arg(state(&self.dir)).status();
    }
}

/// A unit file of `examples/systemd`, as it is shipped.
pub(crate) fn shipped(name: &'static str) -> (&'static str, String) {
    (name, shipped_text(name))
}

/// The text of a file of `examples/systemd`.
pub(crate) fn shipped_text(name: &str) -> String {
    fs::read_to_string(Path::new(UNITS).join(name)).expect("a unit file")
}

/// The name of each file in `examples/systemd`.
pub(crate) fn all_shipped() -> Vec<String> {
    let entries = fs::read_dir(UNITS).expect("the directory of the units");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8")).collect();
    names.sort_unstable();
    names
}

/// The version of the systemd that is booted.
pub(crate) fn version() -> u32 {
    check_needs();
    let output = Command::new("chroot").arg(root().unwrap_or("/".into())).args(["systemctl", "--version"]).output();
    let output = output.expect("chroot runs");
    succeed(&output, "systemctl does not tell its version");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(1).and_then(|version| version.split('.').next()?.parse().ok());
    version.unwrap_or_else(|| panic!("no version: {text}"))
}

/// Whether the systemd that is booted is of that version or a later one. Where it is not, it says so past the test harness,
/// which would hide it: what follows is not done.
pub(crate) fn has(what: &str, since: u32) -> bool {
    let version = version();
    if version < since {
        let test = thread::current();
        let test = test.name().unwrap_or_default();
        let remedy = format!("{ROOT}=DIR boots another, see tests/support/systemd-harness.sh");
        let line = format!("not done: systemd {version} has no {what}, {since} and later have ({test}; {remedy})\n");
        std::io::stderr().write_all(line.as_bytes()).expect("standard error takes a line");
    }
    version >= since
}

/// Where this program is, at the same place inside.
fn own_directory() -> String {
    let program = env::current_exe().expect("a test program has a path");
    let directory = program.parent().expect("a program is in a directory").display();
    format!("{directory}:{directory}")
}

fn root() -> Option<PathBuf> {
    env::var_os(ROOT).filter(|root| !root.is_empty()).map(PathBuf::from)
}

fn check_needs() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: it makes namespaces and boots a systemd in them"
    );
    for (name, package) in
        [("unshare", "util-linux"), ("script", "bsdutils"), ("systemctl", "systemd"), ("curl", "curl")]
    {
        match root() {
            Some(root) if ["systemd", "curl"].contains(&package) => needs::program_in(&root, name, package),
            _ => needs::program(name, package),
        }
    }
    needs::example("named");
    needs::example("inetd");
}

fn state(dir: &TempDir) -> PathBuf {
    dir.path().join("state")
}

fn succeed(output: &Output, what: &str) {
    assert!(output.status.success(), "{what}\n{}", String::from_utf8_lossy(&output.stderr));
}
