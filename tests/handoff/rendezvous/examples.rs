//! Handoffs at a path, between example programs: asked for by an operator's program, or by a process that is started by hand.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use crate::support::{http, needs, process::Process, program::Program, wait::find};

/// A service of the example `rendezvous`, installed in a folder of its own; the process that serves at the end is killed.
struct Service {
    folder: TempDir,
    addr: SocketAddr,
    /// Those that the test has started itself.
    started: Vec<Process>,
}

impl Service {
    fn start() -> Self {
        let example = needs::example("rendezvous");
        // Not below target/, which is another user's where that one runs the tests by sudo: root trusts no path there.
        let folder = tempfile::tempdir().unwrap();
        fs::copy(example, folder.path().join("server")).unwrap();
        let first = Program::start_with(&folder.path().join("server"), &[&folder.path().join("handoff.sock")]);
        let service = Self { folder, addr: first.addr(), started: vec![first.process] };
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
        let answer = http::text(self.addr, "/");
        let (generation, pid) = answer.trim().strip_prefix("generation ").unwrap().split_once(", pid ").unwrap();
        (generation.parse().unwrap(), pid.parse().unwrap())
    }

    /// Starts one more by hand, which inherits nothing: its process id.
    fn start_another(&mut self) -> i32 {
        let another = Process::start(Command::new(self.program()).arg(self.path()).stdout(Stdio::null()));
        let pid = another.pid();
        self.started.push(another);
        pid.as_raw_nonzero().get()
    }

    /// All that were started by hand have ended, in order.
    fn assert_predecessors_ended(&mut self) {
        let ended = self.started.iter_mut().map(Process::status);
        assert!(ended.into_iter().all(|status| status.success()));
    }

    #[track_caller]
    fn assert_becomes(&self, generation: u64) {
        find(|| format!("{:?} serves", self.serving()), || (self.serving().0 == generation).then_some(()));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.started.clear();
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
fn an_operator_asks_and_sees_who_serves_now() {
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
fn a_deploy_script_fails_where_no_process_serves() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, error) = ask(&folder.path().join("handoff.sock"));
    assert_eq!(code, Some(1));
    assert!(error.contains("no process serves there"), "{error}");
}

#[test]
fn a_deploy_script_that_fails_waits_a_moment_for_the_stop_that_may_be_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut script = Command::new(needs::example("handoff_request"));
    let started = Instant::now();
    let mut script = Process::start(script.arg(folder.path().join("handoff.sock")).stderr(Stdio::piped()));
    assert_ne!(script.line(), "");
    assert_eq!(script.status().code(), Some(1));
    // The moment is what is tested; a slow machine can only make it longer.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200), "systemd takes an exit with 1 for a failure of the service");
}

#[test]
fn a_process_that_is_started_by_hand_takes_over_and_then_owns_the_path() {
    let mut service = Service::start();
    for generation in 1..=3 {
        let pid = service.start_another();
        service.assert_becomes(generation);
        assert_eq!(service.serving().1, pid);
    }
    assert_eq!(ask(&service.path()).0, Some(0));
    service.assert_becomes(4);
    service.assert_predecessors_ended();
}
