//! `facebookgo/grace/gracenet`, whose `Net` answers for an address with an inherited listener or a fresh one.

use std::{
    env, fs,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{fs::symlink, net::UnixListener},
    },
};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::subprocesses::{Got, Passed};
use crate::support::{sockets, subprocess::Subprocess};

/// As gracenet is given sockets: a count, no names and no pid.
fn inherited<const N: usize>(sockets: [OwnedFd; N], addrs: &[&str]) -> Subprocess {
    let subprocess = sockets.into_iter().fold(Subprocess::new("listen_anyhow"), Subprocess::fd);
    subprocess.count(N.to_string()).arg(addrs.join(" "))
}

fn fresh(addrs: &[&str]) -> Subprocess {
    Subprocess::new("listen_anyhow").arg(addrs.join(" "))
}

fn bound(addr: &str) -> (OwnedFd, String) {
    let socket = TcpListener::bind(addr).unwrap();
    let addr = sockets::addr(&socket).to_string();
    (socket.into(), addr)
}

fn bound_unix() -> (TempDir, OwnedFd, String) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let socket = UnixListener::bind(&path).unwrap();
    (dir, socket.into(), format!("unix:{}", path.display()))
}

/// Panics unless the socket that was passed answers, under its own address.
#[track_caller]
fn assert_inherited(got: &Got, addr: &str) {
    assert_eq!((got.addr.as_deref(), got.fresh), (Ok(addr), false));
}

#[track_caller]
fn assert_in_use(got: &Got) {
    assert_eq!(got.addr.as_ref().unwrap_err().is, ["address_in_use"]);
    assert!(!got.fresh);
}

#[test]
fn listen_tcp_inherits_the_socket_of_that_address() {
    let (socket, addr) = bound("127.0.0.1:0");
    let [got]: [Got; 1] = inherited([socket], &[&addr]).report();
    assert_inherited(&got, &addr);
}

#[test]
fn listen_tcp_takes_wildcards_for_equal() {
    for bind_to in ["0.0.0.0:0", "[::]:0"] {
        let port = |addr: &str| addr.rsplit(':').next().unwrap().to_owned();
        for ask in ["", "0.0.0.0", "[::]"] {
            let (socket, addr) = bound(bind_to);
            let [got]: [Got; 1] = inherited([socket], &[&format!("{ask}:{}", port(&addr))]).report();
            assert_inherited(&got, &addr);
        }
    }
}

#[test]
fn listen_tcp_inherits_an_ipv6_socket() {
    let (socket, addr) = bound("[::1]:0");
    let [got]: [Got; 1] = inherited([socket], &[&addr]).report();
    assert_inherited(&got, &addr);
}

#[test]
fn listen_tcp_tells_two_sockets_apart() {
    let ((first, first_addr), (second, second_addr)) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
    let got: [Got; 2] = inherited([first, second], &[&second_addr, &first_addr]).report();
    assert_inherited(&got[0], &second_addr);
    assert_inherited(&got[1], &first_addr);
}

#[test]
fn listen_tcp_binds_fresh_what_was_not_inherited() {
    let (socket, _) = bound("127.0.0.1:0");
    let [got]: [Got; 1] = inherited([socket], &["127.0.0.1:0"]).report();
    assert!(got.addr.is_ok() && got.fresh);
}

#[test]
fn a_second_listen_tcp_on_an_inherited_address_fails_with_address_in_use() {
    let (socket, addr) = bound("127.0.0.1:0");
    let got: [Got; 2] = inherited([socket], &[&addr, &addr]).report();
    assert_inherited(&got[0], &addr);
    assert_in_use(&got[1]);
}

#[test]
fn a_second_listen_tcp_on_a_fresh_address_fails_with_address_in_use() {
    let got: [Got; 2] = fresh(&["127.0.0.1:0", "same"]).report();
    assert!(got[0].addr.is_ok());
    assert_in_use(&got[1]);
}

#[test]
fn listen_on_port_zero_twice_gives_two_ports() {
    let got: [Got; 2] = fresh(&[":0", ":0"]).report();
    assert_ne!(got[0].addr.as_ref().unwrap(), got[1].addr.as_ref().unwrap());
}

#[test]
fn listen_unix_inherits_the_socket_of_that_path() {
    let (_dir, socket, addr) = bound_unix();
    let [got]: [Got; 1] = inherited([socket], &[&addr]).report();
    assert_inherited(&got, &addr);
}

#[test]
fn listen_unix_binds_fresh_what_was_not_inherited() {
    let (dir, socket, _) = bound_unix();
    let other = format!("unix:{}", dir.path().join("other.sock").display());
    let [got]: [Got; 1] = inherited([socket], &[&other]).report();
    assert_eq!((got.addr, got.fresh), (Ok(other), true));
}

#[test]
fn a_second_listen_unix_on_an_inherited_path_fails_with_address_in_use() {
    let (_dir, socket, addr) = bound_unix();
    let got: [Got; 2] = inherited([socket], &[&addr, &addr]).report();
    assert_inherited(&got[0], &addr);
    assert_in_use(&got[1]);
}

#[test]
fn a_second_listen_unix_on_a_fresh_path_fails_with_address_in_use() {
    let dir = tempdir().unwrap();
    let addr = format!("unix:{}", dir.path().join("app.sock").display());
    let got: [Got; 2] = fresh(&[&addr, &addr]).report();
    assert_eq!((got[0].addr.as_ref().unwrap(), got[0].fresh), (&addr, true));
    assert_in_use(&got[1]);
}

#[test]
fn listen_takes_tcp_and_unix_in_any_order() {
    let (tcp, tcp_addr) = bound("0.0.0.0:0");
    let (_dir, unix, unix_addr) = bound_unix();
    let got: [Got; 2] = inherited([tcp, unix], &[&unix_addr, &tcp_addr]).report();
    assert_inherited(&got[0], &unix_addr);
    assert_inherited(&got[1], &tcp_addr);
}

#[test]
fn listen_on_what_is_no_address_is_an_error() {
    for addr in ["abc", "foo:", "tcp://127.0.0.1:80"] {
        let [got]: [Got; 1] = fresh(&[addr]).report();
        assert_eq!(got.addr.unwrap_err().is, ["invalid_address"], "{addr}");
    }
}

#[test]
fn an_empty_count_or_one_of_zero_inherits_nothing() {
    for count in ["", "0"] {
        let [got]: [Got; 1] = fresh(&["127.0.0.1:0"]).count(count).report();
        assert!(got.addr.is_ok() && got.fresh);
    }
}

#[test]
fn a_count_that_is_no_number_fails_whatever_is_listened_on() {
    for addr in [":0", "unix:/nowhere/app.sock"] {
        let [got]: [Got; 1] = fresh(&[addr]).count("a").report();
        let error = got.addr.unwrap_err();
        assert_eq!(error.is, ["invalid_environment"]);
        error.assert_says(&["LISTEN_FDS=\"a\" is not a number"]);
    }
}

/// Starts the next process after `change`: what it was passed; and the pid and the addresses that who started it knows.
fn start_process(subprocess: Subprocess, change: impl FnOnce()) -> (Passed, u32, (String, String)) {
    let mut first = subprocess.arg("127.0.0.1:0").start();
    change();
    first.tell("go on");
    // The two are in no order.
    let reports: [Value; 2] = [first.hear(), first.hear()];
    let (passed, started): (Vec<_>, Vec<_>) = reports.into_iter().partition(Value::is_object);
    let (pid, addrs) = serde_json::from_value(started[0].clone()).unwrap();
    first.tell("end");
    first.finish();
    (serde_json::from_value(passed[0].clone()).unwrap(), pid, addrs)
}

#[cfg(feature = "handoff")]
#[test]
fn start_process_passes_what_is_listened_on_and_returns_the_pid() {
    let (passed, pid, (addr, _)) = start_process(Subprocess::new("start_process"), || ());
    assert_eq!(passed.pid, pid);
    assert!(passed.sockets.contains(&(String::new(), vec![addr])), "{passed:?}");
}

#[cfg(feature = "handoff")]
#[test]
fn start_process_passes_what_was_shared() {
    let (passed, _, (_, datagrams)) = start_process(Subprocess::new("start_process"), || ());
    assert!(passed.sockets.contains(&("datagrams".to_owned(), vec![datagrams])), "{passed:?}");
}

#[cfg(feature = "handoff")]
#[test]
fn start_process_looks_the_program_up_again() {
    let dir = tempdir().unwrap();
    let (program, next) = (dir.path().join("program"), dir.path().join("next"));
    let this = env::current_exe().unwrap();
    symlink(&this, &program).unwrap();
    fs::copy(&this, &next).unwrap();
    let (passed, ..) = start_process(Subprocess::new("start_process").command([&program]), || {
        let beside = dir.path().join("beside");
        symlink(&next, &beside).unwrap();
        fs::rename(beside, &program).unwrap();
    });
    assert_eq!(passed.program, next);
}

/// Theirs fails for every address then.
#[test]
fn a_file_that_is_no_socket_fails_the_call_that_asks_for_it_and_no_other() {
    let (socket, addr) = bound("127.0.0.1:0");
    let got: [Got; 3] = inherited([sockets::regular_file().into(), socket], &["&", &addr, "127.0.0.1:0"]).report();
    let error = got[0].addr.as_ref().unwrap_err();
    assert_eq!(error.is, ["wrong_kind"]);
    error.assert_says(&["regular file"]);
    assert_inherited(&got[1], &addr);
    assert!(got[2].addr.is_ok() && got[2].fresh);
}

/// Theirs inherits whatever `LISTEN_FDS` counts, also in a helper that was only given the variables.
#[test]
fn sockets_without_a_pid_are_inherited_if_all_of_them_are_there() {
    for (count, are_there) in [("1", true), ("2", false)] {
        let (socket, addr) = bound("127.0.0.1:0");
        let [got]: [Got; 1] = Subprocess::new("listen").fd(socket).count(count).arg(&addr).report();
        if are_there { assert_inherited(&got, &addr) } else { assert_in_use(&got) }
    }
}
