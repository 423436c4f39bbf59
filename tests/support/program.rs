//! An example as a process of its own, which was passed one socket.

use std::{
    ffi::OsString,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use rustix::{net::sockopt::set_tcp_nodelay, process::Signal};

use super::{needs, process::Process, subprocess::Subprocess};

/// A process; it ends with this value, or with the test's thread.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) process: Process,
    addr: SocketAddr,
}

impl Program {
    /// Starts an example with a socket named `http`, which clients can connect to at once.
    pub(crate) fn start(example: &str) -> Self {
        Self::start_with(&needs::example(example), &[])
    }

    /// As `start`, for any program with arguments.
    pub(crate) fn start_with(program: &Path, arguments: &[&Path]) -> Self {
        needs::program("setpriv", "util-linux");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        // As with NoDelay=yes: what is sent last would wait 40 ms for the acknowledgement of what was sent before.
        set_tcp_nodelay(&listener, true).expect("it is TCP");
        let until_death = ["setpriv", "--pdeathsig", "KILL"].map(OsString::from);
        let words = until_death.into_iter().chain([program.into()]).chain(arguments.iter().map(OsString::from));
        let subprocess = Subprocess::passed("none", [("http", listener.into())]).program(words);
        Self { process: subprocess.spawn(|line| Some(line.to_owned())), addr }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits until it ends, and fails unless it does so in order: what it printed and no test has read.
    #[track_caller]
    pub(crate) fn ended(self) -> String {
        self.process.finish()
    }
}
