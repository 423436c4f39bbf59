//! Under `systemd-socket-activate`, which needs no systemd to run: the examples, with `curl` as their client.
//!
//! Needs Debian's packages systemd, util-linux and curl.

use std::{
    collections::HashSet,
    net::TcpListener,
    process::{Command, Stdio},
};

use rustix::process::Signal;

use crate::support::{needs, process::Process};

#[test]
fn named_answers_on_two_tcp_ports_and_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let admin = dir.path().join("admin.sock");
    let admin = admin.to_str().unwrap();
    let [http, metrics] = free_addresses();
    let activated = Activated::start(&["--fdname=http:metrics:admin"], &[&http, &metrics, admin], "named");

    assert_eq!(curl(&[&format!("http://{http}/")]), "hello, you came through http\n");
    assert_eq!(curl(&[&format!("http://{metrics}/metrics")]), "named_greetings_total 1\n");
    let status = curl(&["--unix-socket", admin, "http://admin/"]);
    let expected = [
        format!("http: {http} (passed, taken)"),
        format!("metrics: {metrics} (passed, taken)"),
        format!("admin: unix:{admin} (passed, taken)"),
    ];
    assert_eq!(status.lines().skip(1).collect::<Vec<_>>(), expected);
    let process = activated.pid();
    assert!(status.starts_with(&format!("process {process}, asked by unix (pid ")), "{status}");
    assert!(status.contains("through admin\n"), "{status}");
}

#[test]
fn axum_serve_answers_on_every_socket_of_its_name_and_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let unix = dir.path().join("http.sock");
    let unix = unix.to_str().unwrap();
    let [tcp] = free_addresses();
    let mut activated = Activated::start(&["--fdname=http"], &[&tcp, unix], "axum_serve");
    for _ in 0..2 {
        assert!(curl(&[&format!("http://{tcp}/")]).starts_with("hello, 127.0.0.1:"));
        assert!(curl(&["--unix-socket", unix, "http://http/"]).starts_with("hello, unix (pid "));
    }
    activated.process.signal(Signal::INT);
    assert!(activated.process.status().success());
}

#[test]
fn a_socket_without_a_name_serves_the_one_name_that_the_program_has() {
    let [addr] = free_addresses();
    let _activated = Activated::start(&[], &[&addr], "hello");
    assert_eq!(curl(&[&format!("http://{addr}/")]), "hello\n");
}

#[test]
fn inetd_serves_each_connection_in_a_process_of_its_own_whatever_its_name() {
    let mut processes = HashSet::new();
    for name in [&[][..], &["--fdname=connection"], &["--fdname=http"]] {
        let [addr] = free_addresses();
        let activated = Activated::start(&[&["--accept"], name].concat(), &[&addr], "inetd");
        processes.insert(activated.pid().to_string());
        for _ in 0..2 {
            let answer = curl(&[&format!("http://{addr}/")]);
            let process = answer.trim_end().rsplit_once("from process ").expect("the process").1.to_owned();
            assert!(processes.insert(process), "{answer} served another connection before");
        }
    }
}

/// An example under `systemd-socket-activate`, which listens; it ends with this value, or with the test's thread.
#[derive(Debug)]
struct Activated {
    process: Process,
}

impl Activated {
    fn start(options: &[&str], sockets: &[&str], example: &str) -> Self {
        for (name, package) in [("systemd-socket-activate", "systemd"), ("setpriv", "util-linux"), ("curl", "curl")] {
            needs::program(name, package);
        }
        let mut activate = Command::new("setpriv");
        activate.args(["--pdeathsig", "KILL", "systemd-socket-activate"]).args(options);
        activate.args(sockets.iter().map(|socket| format!("--listen={socket}"))).arg(needs::example(example));
        let process = Process::start(activate.stdout(Stdio::null()).stderr(Stdio::piped()));
        for _ in sockets {
            let line = process.line();
            assert!(line.starts_with("Listening on "), "{line}");
        }
        Self { process }
    }

    fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }
}

/// Addresses whose ports are free; `systemd-socket-activate` does not take port 0.
fn free_addresses<const N: usize>() -> [String; N] {
    let bound = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    bound.map(|listener| listener.local_addr().expect("its address").to_string())
}

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "30"]).args(args).output().expect("curl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
