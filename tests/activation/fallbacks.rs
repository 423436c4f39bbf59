//! Fallbacks that cannot be bound.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use axum_activation::ActivatedListeners;
use serde::{Deserialize, Serialize};
use tempfile::tempdir;

use crate::support::{
    fd_table::FdTable,
    seen::{SeenError, failure},
    sockets,
    subprocess::{ChildIo, Subprocess},
};

/// What a subprocess saw whose fallback could not be bound.
#[derive(Debug, Serialize, Deserialize)]
struct FellBack {
    targets: BTreeMap<i32, String>,
    error: SeenError,
    after: FdTable,
    /// What the next claim answers with.
    names: Vec<String>,
    /// Whether the passed socket gives a connection after all that.
    serves: bool,
}

/// One fallback that can be bound, and then one that cannot.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn fall_back_in_vain(io: &ChildIo) {
    let before = FdTable::now();
    let targets = before.targets().into_iter().map(|(fd, target)| (fd, target.to_owned())).collect();
    let builder = ActivatedListeners::builder().fallback("spare", "127.0.0.1:0").fallback("admin", io.arg().as_str());
    let error = failure(builder.from_env());
    let after = FdTable::now();
    let set = ActivatedListeners::from_env().unwrap();
    let names = set.names();
    io.say(FellBack { targets, error, after, names, serves: gives_a_connection(&set).await });
}

async fn gives_a_connection(set: &ActivatedListeners) -> bool {
    let mut listener = set.one("http").unwrap();
    let addr: SocketAddr = listener.local_addrs()[0].to_string().parse().unwrap();
    let client = TcpStream::connect(addr).unwrap();
    let (_, peer) = listener.accept().await;
    peer.socket_addr() == client.local_addr().ok()
}

/// The error of a fallback that cannot be bound: nothing is bound then, and what was passed is still there.
#[track_caller]
fn cannot_fall_back(addr: &str, says: &[&str]) -> SeenError {
    let report: FellBack =
        Subprocess::passed("fall_back_in_vain", [("http", sockets::tcp().into())]).arg(addr).report();
    report.error.assert_says(says);
    let after: BTreeMap<_, _> =
        report.after.targets().into_iter().map(|(fd, target)| (fd, target.to_owned())).collect();
    assert_eq!(after, report.targets, "the other fallback is still open");
    assert!(report.after.is_owned(3));
    assert_eq!(report.names, ["http"]);
    assert!(report.serves);
    report.error
}

#[test]
fn a_fallback_address_in_use_is_named() {
    let other = sockets::tcp();
    let addr = other.local_addr().unwrap().to_string();
    let says = format!("cannot listen on {addr}: the address is in use; stop who has it");
    assert_eq!(cannot_fall_back(&addr, &[&says]).is, ["address_in_use"]);
}

#[test]
fn a_fallback_on_an_address_of_another_machine_is_named() {
    cannot_fall_back("192.0.2.1:80", &["cannot listen on 192.0.2.1:80: no interface of this machine has that address"]);
}

#[test]
fn a_unix_path_that_is_a_regular_file_is_left_alone() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    fs::write(&path, "precious").unwrap();
    let says = format!("cannot listen on {}: a file that is no socket stands there; remove it", unix(&path));
    cannot_fall_back(&unix(&path), &[&says]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_unix_path_that_is_a_link_or_a_directory_is_left_alone() {
    let dir = tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/nowhere", &link).unwrap();
    cannot_fall_back(&unix(&link), &["a symbolic link to /nowhere stands there, which leads nowhere; remove the link"]);
    assert!(link.is_symlink());
    cannot_fall_back(&unix(dir.path()), &["a file that is no socket stands there"]);
}

#[test]
fn a_unix_path_on_which_another_process_listens_is_left_alone() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let live = UnixListener::bind(&path).unwrap();
    let error = cannot_fall_back(&unix(&path), &["another process listens there; stop it, or choose another path"]);
    assert_eq!(error.is, ["address_in_use"]);
    assert!(UnixStream::connect(&path).is_ok());
    drop(live);
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let dir = tempdir().unwrap();
    let path = unix(&dir.path().join("missing/app.sock"));
    cannot_fall_back(&path, &[&format!("cannot listen on {path}: no such directory"), "RuntimeDirectory="]);
}

#[test]
fn a_path_through_a_file_is_named() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("file"), "precious").unwrap();
    let path = unix(&dir.path().join("file/app.sock"));
    cannot_fall_back(&path, &[&format!("cannot listen on {path}: a part of the path is a file that is no directory")]);
}

#[test]
fn a_path_of_108_bytes_is_too_long() {
    let path = format!("unix:/tmp/{}", "x".repeat(103));
    let says = format!("cannot listen on {path}: the path has more than 107 bytes, choose a shorter one");
    cannot_fall_back(&path, &[&says]);
}

#[test]
fn an_abstract_name_too_long_or_in_use_is_named() {
    let name = format!("@axum-activation-{}-bad-input", std::process::id());
    let taken = ActivatedListeners::builder().fallback("here", name.as_str()).build().unwrap();
    let says = format!("cannot listen on {name}: the name is in use; stop who has it (ss -lxp)");
    assert_eq!(cannot_fall_back(&name, &[&says]).is, ["address_in_use"]);
    drop(taken);
    let says = "the name has more than 107 bytes, choose a shorter one";
    cannot_fall_back(&format!("@{}", "x".repeat(108)), &["cannot listen on @xxx", says]);
}

#[test]
fn a_malformed_fallback_is_named() {
    let says = ["\"localhost\" is no address: the port is missing", "expected host:port"];
    assert_eq!(cannot_fall_back("localhost", &says).is, ["invalid_address"]);
}

#[test]
fn a_fallback_cannot_name_a_passed_socket() {
    let says = ["\"&http\" is no address: it names a socket that ", "so it cannot be bound"];
    assert_eq!(cannot_fall_back("&http", &says).is, ["invalid_address"]);
}

#[test]
fn a_fallback_or_a_socket_of_an_impossible_name_is_refused() {
    for (name, problem) in [("a:b", "it contains ':'"), ("ä", "not ASCII"), ("a\n", "a control character")] {
        let fallback = ActivatedListeners::builder().fallback(name, "127.0.0.1:0").build();
        let socket = ActivatedListeners::builder().socket(name, sockets::tcp()).build();
        for error in [failure(fallback), failure(socket)] {
            assert_eq!(error.is, ["invalid_address"]);
            error.assert_says(&[
                &format!("{name:?} cannot be the name of a socket: it contains"),
                problem,
                "255 ASCII",
            ]);
        }
    }
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}
