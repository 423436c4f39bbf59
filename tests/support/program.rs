//! An example as a process of its own, which was passed one socket.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::sockopt::set_tcp_nodelay,
    process::{Pid, Signal, kill_process},
};

use super::needs;

/// How long anything may take that takes no time; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Moves the socket from standard input to where it belongs, and becomes the program.
const PASS: &str = r#"exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_FDNAMES=http LISTEN_PID=$$ exec "$0""#;

/// A process; it ends with this value, or with the test's thread.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl Program {
    /// Starts an example with a socket named `http`, which clients can connect to at once.
    pub(crate) fn start(example: &str) -> Self {
        needs::program("setpriv", "util-linux");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        // As with NoDelay=yes: a last word would wait 40 ms for the acknowledgement of the one before.
        set_tcp_nodelay(&listener, true).expect("it is TCP");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", PASS]).arg(needs::example(example));
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::piped());
        let mut child = command.spawn().expect("setpriv runs");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, stdout, addr }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it prints");
        line
    }

    /// Sends SIGTERM; when that was.
    pub(crate) fn terminate(&self) -> Instant {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        Instant::now()
    }

    /// Waits until it ends, and fails unless it does so in order: what it printed last.
    pub(crate) fn ended(mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it has not ended within {PATIENCE:?}"),
            }
            thread::sleep(Duration::from_millis(2));
        };
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).expect("its last words");
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
