//! Starts the running test program once more, as a process that was passed sockets, and runs a function of it there.
//!
//! A program names these functions in one test, which does nothing but in such a process:
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

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt::{Debug, Write as _},
    fs::File,
    io::{BufRead, Read, Write as _},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    str::FromStr,
    sync::{Mutex, PoisonError},
    thread,
};

use rustix::{
    io::FdFlags,
    process::{Pid, PidfdFlags, Signal},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::process::Process;

/// Stands before every line of a report, which shares standard output with the test harness.
const MARK: &str = "\u{1}report ";

/// More than all reports of a subprocess have; every user may have as much (`/proc/sys/fs/pipe-max-size`).
const PIPE_ROOM: usize = 1 << 20;

/// Descriptors wait here for `bash` to put them in place.
const WAITING_ROOM: i32 = 300;

/// One spawn at a time: the descriptors on their way to a child are inheritable for a moment.
static SPAWN: Mutex<()> = Mutex::new(());

/// What a process is to be passed, and what runs in it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Subprocess {
    name: &'static str,
    fds: Vec<Option<OwnedFd>>,
    variables: Vec<(OsString, OsString)>,
    removed: Vec<OsString>,
    own_pid: bool,
    /// Instead of the running test binary: the words up to its arguments.
    command: Option<Vec<OsString>>,
    directory: Option<PathBuf>,
    /// It is a run of this test program, or of what becomes one.
    is_test: bool,
    log: Option<File>,
}

impl Subprocess {
    /// A subprocess without sockets and variables.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            fds: Vec::new(),
            variables: Vec::new(),
            removed: Vec::new(),
            own_pid: false,
            command: None,
            directory: None,
            is_test: true,
            log: None,
        }
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

    /// Another program altogether, and its arguments.
    pub(crate) fn program(mut self, words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.is_test = false;
        self.command(words)
    }

    /// Where its standard error goes.
    pub(crate) fn log(mut self, file: File) -> Self {
        self.log = Some(file);
        self
    }

    /// It ends with its standard input, as do all that it starts, and not with its parent.
    pub(crate) fn lifeline(self) -> Self {
        self.variable("SUBPROCESS_LIFELINE", "1")
    }

    /// Without that variable, which also the shell in between does not set.
    pub(crate) fn without(mut self, name: impl Into<OsString>) -> Self {
        self.removed.push(name.into());
        self
    }

    /// Any variable.
    pub(crate) fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Runs it to the end and returns its one report.
    pub(crate) fn report<T: DeserializeOwned>(self) -> T {
        let mut child = self.start();
        let report = child.hear();
        child.finish();
        report
    }

    /// Starts it.
    pub(crate) fn start(self) -> Child {
        Child(self.spawn(|line| line.strip_prefix(MARK).map(str::to_owned)))
    }

    /// Starts it; `parse` says which lines of its standard output count, and as what.
    pub(crate) fn spawn<T: Clone + Debug + Send + 'static>(self, parse: fn(&str) -> Option<T>) -> Process<T> {
        let _alone = SPAWN.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: Vec<_> = self.fds.iter().map(|fd| fd.as_ref().map(inheritable)).collect();
        let script = self.script(&waiting);
        let mut command = Command::new("bash");
        let program = self.command.unwrap_or_else(|| vec![env::current_exe().unwrap().into()]);
        command
            .args(["-c", &script, "bash"])
            .args(program)
            .current_dir(self.directory.as_deref().unwrap_or(Path::new(".")));
        if self.is_test {
            command.args(["--exact", "subprocess", "--nocapture", "--test-threads=1", "--quiet"]);
        }
        for name in ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        command.env("SUBPROCESS", self.name).envs(self.variables).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(log) = self.log {
            command.stderr(log);
        }
        Process::start_parsed(&mut command, parse)
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
        for name in &self.removed {
            writeln!(script, "unset {}", name.to_str().expect("a name")).unwrap();
        }
        script.push_str("exec \"$@\"\n");
        script
    }
}

/// A subprocess, seen from the test; killed when dropped.
#[derive(Debug)]
pub(crate) struct Child(Process);

impl Child {
    /// The next report of the subprocess.
    #[track_caller]
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> T {
        let line = self.0.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("unexpected report {line}: {error}"))
    }

    /// Says something that the subprocess waits for with [`ChildIo::hear`].
    pub(crate) fn tell(&mut self, line: &str) {
        self.0.tell(line);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }

    pub(crate) fn pid(&self) -> Pid {
        self.0.pid()
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub(crate) fn finish(self) {
        let status = self.end();
        assert!(status.success(), "the subprocess failed: {status}");
    }

    /// Waits for its end, and is still there to talk to.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.status()
    }

    /// Has nothing more to say, and waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> ExitStatus {
        self.0.end()
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

/// A line that a process says of itself, where several write to one pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) pid: u32,
    #[serde(rename = "line")]
    pub(crate) text: String,
}

impl Line {
    /// Says it.
    pub(crate) fn say(text: &str) {
        ChildIo.say(Self { pid: process::id(), text: text.to_owned() });
    }

    /// Reads one that was said.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = line.strip_prefix(MARK)?;
        Some(serde_json::from_str(line).unwrap_or_else(|error| panic!("unexpected line {line}: {error}")))
    }

    /// The word at that place.
    pub(crate) fn word<T: FromStr>(&self, at: usize) -> T {
        let word = self.text.split(' ').nth(at).and_then(|word| word.parse().ok());
        word.unwrap_or_else(|| panic!("no such word: {self:?}"))
    }
}

/// What a subprocess does.
pub(crate) type Run = fn(&ChildIo);

/// Runs what the parent asked for; in the parent itself it does nothing.
pub(crate) fn run(subprocesses: &[(&str, Run)]) {
    let Some(name) = env::var_os("SUBPROCESS") else {
        return;
    };
    if env::var_os("SUBPROCESS_LIFELINE").is_some() {
        thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            process::exit(0);
        });
    } else {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    }
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
