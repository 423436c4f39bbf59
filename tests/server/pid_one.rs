//! The first process of a container, without an init: in a pid namespace of its own it hears the signals that stop it, also
//! before it serves.
//!
//! Needs root, for the namespace, and Debian's package util-linux.

use std::{fs, process};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Server};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::support::{
    needs,
    subprocess::{Child, ChildIo, Subprocess},
};

#[test]
fn sigterm_and_sigint_drain() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut container = container("serve_as_pid_one");
        assert_eq!(container.hear::<u32>(), 1, "it is PID 1");
        kill_process(first_process(&container), signal).unwrap();
        assert_eq!(container.hear::<String>(), "drained");
        container.finish();
    }
}

/// The kernel does not deliver to PID 1 what it does not handle.
#[test]
fn a_sigterm_before_it_serves_is_heard() {
    let mut container = container("start_slowly_as_pid_one");
    assert_eq!(container.hear::<u32>(), 1, "it is PID 1");
    kill_process(first_process(&container), Signal::TERM).unwrap();
    container.tell("go on");
    assert_eq!(container.hear::<String>(), "drained");
    container.finish();
}

/// The subprocess as the first process of a pid namespace.
fn container(subprocess: &'static str) -> Child {
    needs::program("unshare", "util-linux");
    assert!(rustix::process::geteuid().is_root(), "this test needs root, for a pid namespace");
    let test = std::env::current_exe().unwrap();
    Subprocess::new(subprocess)
        .command(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", test.to_str().unwrap()])
        .start()
}

/// PID 1 of the container, as it is called out here.
fn first_process(container: &Child) -> Pid {
    let unshare = container.pid().as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

fn server() -> Server {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build().unwrap();
    Server::new(activated).serve("http", Router::new().route("/", get(|| async { "hello" })))
}

pub(crate) fn serve(io: &ChildIo) {
    Runtime::new().unwrap().block_on(async {
        let serves = async { io.say(process::id()) };
        let (report, ()) = tokio::join! { biased; server().run(), serves };
        assert!(report.unwrap().is_clean());
        io.say("drained");
    });
}

pub(crate) fn start_slowly(io: &ChildIo) {
    Runtime::new().unwrap().block_on(async {
        let server = server();
        io.say(process::id());
        io.hear();
        assert!(server.run().await.unwrap().is_clean());
        io.say("drained");
    });
}
