//! Starts the running test binary once more, as a process that was passed sockets, and plays a subprocess in it.
//!
//! A test file names its subprocesses in one test, which does nothing but in such a child:
//!
//! ```ignore
//! #[test]
//! fn subprocess() {
//!     subprocess::run(&[("claim", claim)]);
//! }
//! ```
//!
//! `bash` puts the descriptors in place and says `LISTEN_PID=$$` before it execs, so that no unsafe code is needed. Parent
//! and child talk in lines of JSON: the child's standard output one way, its standard input the other.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{self, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use rustix::{
    io::FdFlags,
    process::{Pid, PidfdFlags, Signal},
};
use serde::{Serialize, de::DeserializeOwned};

/// How long a child may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stands before every line of a report, which shares standard output with the test harness.
const MARK: &str = "\u{1}report ";

/// More than all reports of a subprocess have; every user may have as much (`/proc/sys/fs/pipe-max-size`).
const PIPE_ROOM: usize = 1 << 20;

/// Descriptors wait here for `bash` to put them in place.
const WAITING_ROOM: i32 = 300;

/// One spawn at a time: the descriptors on their way to a child are inheritable for a moment.
static SPAWN: Mutex<()> = Mutex::new(());

/// What a child is to be passed, and which subprocess it plays.
#[derive(Debug)]
#[must_use]
pub(crate) struct Subprocess {
    name: &'static str,
    fds: Vec<Option<OwnedFd>>,
    variables: Vec<(&'static str, OsString)>,
    own_pid: bool,
    /// Instead of the running test binary: the words up to its arguments.
    command: Option<Vec<OsString>>,
    directory: Option<PathBuf>,
}

impl Subprocess {
    /// A subprocess without sockets and variables.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, fds: Vec::new(), variables: Vec::new(), own_pid: false, command: None, directory: None }
    }

    /// A subprocess in which the sockets come as systemd passes them, under these names.
    pub(crate) fn passed<const N: usize>(name: &'static str, sockets: [(&str, OwnedFd); N]) -> Self {
        let names = sockets.each_ref().map(|(name, _)| *name).join(":");
        let subprocess = sockets.into_iter().fold(Self::new(name), |subprocess, (_, fd)| subprocess.fd(fd));
        let count = subprocess.fds.len().to_string();
        subprocess.own_pid().count(count).names(names)
    }

    /// Passes `fd` at the next number, from 3.
    pub(crate) fn fd(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.fds.push(Some(fd.into()));
        self
    }

    /// Leaves the next number closed.
    pub(crate) fn closed(mut self) -> Self {
        self.fds.push(None);
        self
    }

    /// `LISTEN_PID` is the child's own.
    pub(crate) fn own_pid(mut self) -> Self {
        self.own_pid = true;
        self
    }

    pub(crate) fn pid(self, text: impl Into<OsString>) -> Self {
        self.variable("LISTEN_PID", text)
    }

    /// `LISTEN_PIDFDID` is the inode of the child's own pidfd.
    pub(crate) fn own_pidfd_id(self) -> Self {
        self.variable("SUBPROCESS_PIDFDID", "own")
    }

    pub(crate) fn pidfd_id(self, text: impl Into<OsString>) -> Self {
        self.variable("LISTEN_PIDFDID", text)
    }

    /// `LISTEN_FDS`, whatever was passed.
    pub(crate) fn count(self, text: impl Into<OsString>) -> Self {
        self.variable("LISTEN_FDS", text)
    }

    pub(crate) fn names(self, text: impl Into<OsString>) -> Self {
        self.variable("LISTEN_FDNAMES", text)
    }

    /// Something for the subprocess to read with [`ChildIo::arg`].
    pub(crate) fn arg(self, text: impl Into<OsString>) -> Self {
        self.variable("SUBPROCESS_ARG", text)
    }

    /// What starts the subprocess, in place of the path of the running test binary: another path of it, a wrapper and then it.
    pub(crate) fn command(mut self, words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.command = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// The working directory.
    pub(crate) fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Any variable.
    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Plays it to the end and returns its one report.
    pub(crate) fn report<T: DeserializeOwned>(self) -> T {
        let mut child = self.start();
        let report = child.hear();
        child.finish();
        report
    }

    /// Starts the child.
    pub(crate) fn start(self) -> Child {
        let _alone = SPAWN.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: Vec<_> = self.fds.iter().map(|fd| fd.as_ref().map(inheritable)).collect();
        let script = self.script(&waiting);
        let mut command = Command::new("bash");
        let program = self.command.unwrap_or_else(|| vec![env::current_exe().unwrap().into()]);
        command
            .args(["-c", &script, "bash"])
            .args(program)
            .current_dir(self.directory.as_deref().unwrap_or(Path::new(".")));
        command.args(["--exact", "subprocess", "--nocapture", "--test-threads=1", "--quiet"]);
        for name in ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        command.env("SUBPROCESS", self.name).envs(self.variables).stdin(Stdio::piped()).stdout(Stdio::piped());
        let spawned = command.spawn().unwrap_or_else(|error| panic!("bash is missing (apt-get install bash): {error}"));
        Child::new(spawned)
    }

    /// Closes what the test runner left open, then moves every descriptor from the waiting room to its place.
    fn script(&self, waiting: &[Option<OwnedFd>]) -> String {
        let mut script = format!(
            "for fd in /proc/self/fd/*; do fd=${{fd##*/}}; \
             if ((fd > 2 && fd < {WAITING_ROOM})); then eval \"exec $fd>&-\"; fi; done\n"
        );
        for (place, fd) in (3..).zip(waiting) {
            if let Some(fd) = fd {
                let from = fd.as_raw_fd();
                writeln!(script, "exec {place}<&{from} {from}<&-").unwrap();
            }
        }
        if self.own_pid {
            script.push_str("export LISTEN_PID=$$\n");
        }
        script.push_str("exec \"$@\"\n");
        script
    }
}

/// A process that plays a subprocess; killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    input: Option<ChildStdin>,
    reports: Receiver<String>,
}

impl Child {
    fn new(mut process: process::Child) -> Self {
        let (sender, reports) = channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        thread::spawn(move || forward_reports(output, &sender));
        Self { input: process.stdin.take(), process, reports }
    }

    /// The subprocess's next report.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> T {
        let line = match self.reports.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the subprocess is silent"),
            Err(RecvTimeoutError::Disconnected) => panic!("the subprocess ended early: {:?}", self.process.wait()),
        };
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("unexpected report {line}: {error}"))
    }

    /// Says something that the subprocess waits for with [`ChildIo::hear`].
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn finish(self) {
        let status = self.end();
        assert!(status.success(), "the subprocess failed: {status}");
    }

    /// Waits for its end, and is still there to talk to.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Has nothing more to say, and waits for its end.
    pub(crate) fn end(mut self) -> ExitStatus {
        drop(self.input.take());
        while self.reports.recv_timeout(PATIENCE).is_ok() {}
        self.process.wait().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's side.
#[derive(Debug)]
pub(crate) struct ChildIo;

impl ChildIo {
    /// What the test gave with [`Subprocess::arg`].
    pub(crate) fn arg(&self) -> String {
        env::var("SUBPROCESS_ARG").unwrap()
    }

    /// Reports to the test.
    pub(crate) fn say(&self, report: impl Serialize) {
        let report = format!("\n{MARK}{}\n", serde_json::to_string(&report).unwrap());
        let mut out = std::io::stdout().lock();
        // In one piece, and with room for it, as another process may write to the same pipe.
        let _ = rustix::pipe::fcntl_setpipe_size(&out, PIPE_ROOM);
        out.write_all(report.as_bytes()).unwrap();
        out.flush().unwrap();
    }

    /// Waits for the test to say something; empty when it has nothing more to say.
    pub(crate) fn hear(&self) -> String {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// What a subprocess does.
pub(crate) type Run = fn(&ChildIo);

/// Plays the subprocess that the parent asked for; in the parent itself it does nothing.
pub(crate) fn run(subprocesses: &[(&str, Run)]) {
    let Some(name) = env::var_os("SUBPROCESS") else {
        return;
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    if env::var_os("SUBPROCESS_PIDFDID").is_some() {
        exec_with_own_pidfd_id();
    }
    let subprocess = subprocesses.iter().find(|(known, _)| OsStr::new(known) == name);
    let (_, subprocess) = subprocess.unwrap_or_else(|| panic!("no subprocess is named {name:?}"));
    subprocess(&ChildIo);
}

/// A process learns the inode of its pidfd only when it runs, and its environment is fixed then: so it execs itself.
fn exec_with_own_pidfd_id() {
    let own = rustix::process::getpid();
    let pidfd = rustix::process::pidfd_open(own, PidfdFlags::empty()).unwrap();
    let id = rustix::fs::fstat(&pidfd).unwrap().st_ino;
    drop(pidfd);
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(env::args_os().skip(1)).env("LISTEN_PIDFDID", id.to_string()).env_remove("SUBPROCESS_PIDFDID");
    panic!("cannot exec: {}", again.exec());
}

/// A copy of `fd` in the waiting room, which a child inherits.
fn inheritable(fd: &OwnedFd) -> OwnedFd {
    let copy = rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), WAITING_ROOM).unwrap();
    rustix::io::fcntl_setfd(&copy, FdFlags::empty()).unwrap();
    copy
}

fn forward_reports(output: impl BufRead, sender: &Sender<String>) {
    for line in output.split(b'\n').map_while(Result::ok) {
        if let Some(report) = String::from_utf8_lossy(&line).strip_prefix(MARK) {
            let _ = sender.send(report.to_owned());
        }
    }
}
