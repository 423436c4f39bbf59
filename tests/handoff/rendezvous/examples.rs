//! Handoffs at a path, between example programs: asked for by an operator's program, or by a process that somebody started.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use crate::support::needs;

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Moves the socket from standard input to where it belongs, and becomes the program.
const PASS: &str = r#"exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_FDNAMES=http LISTEN_PID=$$ exec "$0" "$@""#;

/// A service of the example `rendezvous`, installed in a folder of its own; whoever serves at the end is killed.
struct Service {
    folder: TempDir,
    addr: SocketAddr,
    /// Those that the test has started itself: its children.
    started: Vec<Child>,
}

impl Service {
    fn start() -> Self {
        let example = needs::example("rendezvous");
        let folder = tempfile::tempdir_in(example.parent().unwrap()).unwrap();
        fs::hard_link(example, folder.path().join("server")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut service = Self { folder, addr: listener.local_addr().unwrap(), started: Vec::new() };
        let mut command = Command::new("sh");
        command.args(["-c", PASS]).arg(service.program()).arg(service.path());
        service.started.push(command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).spawn().unwrap());
        assert_eq!(service.serving().0, 0);
        service
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("handoff.sock")
    }

    /// Which generation answers, and its process id.
    fn serving(&self) -> (u64, i32) {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.rsplit("\r\n\r\n").next().unwrap().trim().to_owned();
        let (generation, pid) = body.strip_prefix("generation ").unwrap().split_once(", pid ").unwrap();
        (generation.parse().unwrap(), pid.parse().unwrap())
    }

    /// Starts one more by hand, which inherits nothing.
    fn start_another(&mut self) -> u32 {
        let mut command = Command::new(self.program());
        command.arg(self.path()).stdout(Stdio::null());
        self.started.push(command.spawn().unwrap());
        self.started.last().unwrap().id()
    }

    /// All that were started by hand have ended, in order.
    fn assert_predecessors_ended(&mut self) {
        let ended = self.started.iter_mut().map(|child| child.wait().unwrap());
        assert!(ended.into_iter().all(|status| status.success()));
    }

    #[track_caller]
    fn assert_becomes(&self, generation: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.serving().0 != generation {
            assert!(Instant::now() < deadline, "{:?} serves", self.serving());
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for child in &mut self.started {
            let _ = child.kill();
            let _ = child.wait();
        }
        // One that a predecessor started is no child of ours.
        if TcpStream::connect(self.addr).is_ok() && !std::thread::panicking() {
            let process = pidfd_open(Pid::from_raw(self.serving().1).unwrap(), PidfdFlags::empty()).unwrap();
            pidfd_send_signal(process, Signal::KILL).unwrap();
        }
    }
}

/// What an operator sees.
fn ask(path: &Path) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(needs::example("handoff_request")).arg(path).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn an_operator_asks_and_is_told_who_serves_now() {
    let service = Service::start();
    for generation in 1..=3 {
        let (code, said, error) = ask(&service.path());
        assert_eq!((code, error.as_str()), (Some(0), ""));
        service.assert_becomes(generation);
        let (_, pid) = service.serving();
        assert_eq!(said, format!("process {pid} serves now\n"));
    }
}

#[test]
fn a_deploy_script_fails_with_the_reason_and_the_old_version_serves_on() {
    let service = Service::start();
    let (program, aside) = (service.program(), service.folder.path().join("aside"));
    fs::rename(&program, &aside).unwrap();
    let (code, said, error) = ask(&service.path());
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(error.contains("handoff.sock") && error.contains("nothing is there"), "{error}");
    assert_eq!(service.serving().0, 0);
    fs::rename(&aside, &program).unwrap();
    assert_eq!(ask(&service.path()).0, Some(0), "it can be tried again");
    service.assert_becomes(1);
}

#[test]
fn a_deploy_script_fails_where_nobody_serves() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, error) = ask(&folder.path().join("handoff.sock"));
    assert_eq!(code, Some(1));
    assert!(error.contains("no process serves there"), "{error}");
}

#[test]
fn a_deploy_script_that_fails_waits_a_moment_for_the_stop_that_may_be_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut script = Command::new(needs::example("handoff_request"));
    let mut script = script.arg(folder.path().join("handoff.sock")).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(script.stderr.take().unwrap());
    errors.read_line(&mut String::new()).unwrap();
    let said = Instant::now();
    errors.read_to_string(&mut String::new()).unwrap();
    assert!(said.elapsed() >= Duration::from_millis(200), "systemd takes an exit with 1 for a failure of the service");
    assert_eq!(script.wait().unwrap().code(), Some(1));
}

#[test]
fn a_process_that_somebody_starts_takes_over_and_then_owns_the_path() {
    let mut service = Service::start();
    for generation in 1..=3 {
        let pid = service.start_another();
        service.assert_becomes(generation);
        assert_eq!(service.serving().1, i32::try_from(pid).unwrap());
    }
    assert_eq!(ask(&service.path()).0, Some(0));
    service.assert_becomes(4);
    service.assert_predecessors_ended();
}
