//! SIGHUP asks for a handoff, and says that the terminal is gone: the server ends then, as what runs in a terminal does.

use std::{os::fd::OwnedFd, time::Duration};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Drain, Server, handoff::Handoff};
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::yield_now,
};

use crate::support::{
    http::Client,
    sockets,
    subprocess::{ChildIo, Subprocess},
};

#[tokio::main]
pub(crate) async fn serve_in_a_terminal(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    let refuse = async || {
        ChildIo.say("asked to hand over");
        Err::<(), _>("not now")
    };
    let server = Server::new(set).serve("http", Router::new().route("/", get("hello"))).before_handoff(refuse);
    // As the leader of the terminal's session it would not hand over.
    server.handoff_by_spawn(true).run().await.unwrap();
    io.say("drained");
}

/// Refuses to hand over when the terminal is gone.
#[tokio::main]
pub(crate) async fn serve_in_a_terminal_that_closes(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    let refuse = async || {
        let mut hangup = signal(SignalKind::hangup()).unwrap();
        ChildIo.say("asked to hand over");
        hangup.recv().await;
        // The server has it by now, too.
        for _ in 0..1000 {
            yield_now().await;
        }
        Err::<(), _>("not now")
    };
    let server = Server::new(set).serve("http", Router::new().route("/", get("hello"))).before_handoff(refuse);
    // As the leader of the terminal's session it would not hand over.
    server.handoff_by_spawn(true).run().await.unwrap();
    io.say("drained");
}

/// A service that axum serves: says whether it has handed over.
#[tokio::main]
pub(crate) async fn serve_by_axum_in_a_terminal(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    let (listener, drain) = (set.one("http").unwrap(), Drain::new());
    // As the leader of the terminal's session it would not hand over.
    let pending = Handoff::builder(&set).handoff_by_spawn(true).join().await.unwrap();
    let active = pending.ready(&drain).await.unwrap();
    let app = Router::new().route("/", get("hello"));
    let served = axum::serve(listener.stop_on(&drain), app).with_graceful_shutdown(drain.started_after(Duration::ZERO));
    drain.run_server(served, Duration::from_secs(5)).await;
    io.say(active.committed().is_cancelled());
    active.finish().await;
}

/// Asks for a handoff by spawn.
#[tokio::main]
pub(crate) async fn serve_as_the_leader_of_a_terminal(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    let server = Server::new(set).serve("http", Router::new().route("/", get("hello")));
    let handoff = server.handoff();
    tokio::spawn(async move { ChildIo.say(handoff.start().await.unwrap_err().to_string()) });
    server.run().await.unwrap();
    io.say("drained");
}

/// Its end would close the terminal, and end the next process with it.
#[test]
fn who_leads_the_session_of_a_terminal_does_not_hand_over_by_spawn() {
    let (_terminal, path) = terminal();
    let socket = sockets::tcp();
    let addr = sockets::addr(&socket);
    let test = std::env::current_exe().unwrap();
    let in_it = ["bash", "-c", "exec setsid --ctty \"$@\" <\"$0\"", &path, test.to_str().unwrap()];
    let subprocess = "serve_as_the_leader_of_a_terminal";
    let mut child = Subprocess::passed(subprocess, [("http", socket.into())]).command(in_it).start();
    let reason = child.hear::<String>();
    let words = ["leads the session of its terminal", "handoff_by_spawn(true)", "handoff_socket"];
    assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
    child.signal(Signal::HUP);
    assert_eq!(Client::connect(&addr).unwrap().get("/").unwrap().text(), "hello");
    child.signal(Signal::TERM);
    assert_eq!(child.hear::<String>(), "drained");
    child.finish();
}

#[test]
fn what_is_to_outlive_its_terminal_is_not_ended_by_it() {
    let (terminal, path) = terminal();
    let socket = sockets::tcp();
    let addr = sockets::addr(&socket);
    let test = std::env::current_exe().unwrap();
    let in_it = ["bash", "-c", "trap '' HUP; exec setsid --ctty \"$@\" <\"$0\"", &path, test.to_str().unwrap()];
    let mut child = Subprocess::passed("serve_in_a_terminal", [("http", socket.into())]).command(in_it).start();
    assert_eq!(Client::connect(&addr).unwrap().get("/").unwrap().text(), "hello");

    drop(terminal);
    assert_eq!(child.hear::<String>(), "asked to hand over");
    assert_eq!(Client::connect(&addr).unwrap().get("/").unwrap().text(), "hello");
    child.signal(Signal::TERM);
    assert_eq!(child.hear::<String>(), "drained");
    child.finish();
}

#[test]
fn a_terminal_that_is_closed_ends_what_was_started_in_it() {
    ends_with_its_terminal("serve_in_a_terminal");
}

#[test]
fn so_does_one_that_is_closed_during_a_hand_over_that_fails() {
    ends_with_its_terminal("serve_in_a_terminal_that_closes");
}

#[test]
fn so_is_what_axum_serves_there() {
    let (terminal, path) = terminal();
    let socket = sockets::tcp();
    let addr = sockets::addr(&socket);
    let test = std::env::current_exe().unwrap();
    let in_it = ["bash", "-c", "exec setsid --ctty \"$@\" <\"$0\"", &path, test.to_str().unwrap()];
    let subprocess = Subprocess::passed("serve_by_axum_in_a_terminal", [("http", socket.into())]);
    let mut child = subprocess.command(in_it).start();
    assert_eq!(Client::connect(&addr).unwrap().get("/").unwrap().text(), "hello");
    drop(terminal);
    assert!(!child.hear::<bool>(), "it has handed over");
    child.finish();
}

#[track_caller]
fn ends_with_its_terminal(subprocess: &'static str) {
    let (terminal, path) = terminal();
    let socket = sockets::tcp();
    let addr = sockets::addr(&socket);
    let test = std::env::current_exe().unwrap();
    let in_it = ["bash", "-c", "exec setsid --ctty \"$@\" <\"$0\"", &path, test.to_str().unwrap()];
    let mut child = Subprocess::passed(subprocess, [("http", socket.into())]).command(in_it).start();
    assert_eq!(Client::connect(&addr).unwrap().get("/").unwrap().text(), "hello");

    child.signal(Signal::HUP);
    assert_eq!(child.hear::<String>(), "asked to hand over");
    drop(terminal);
    assert_eq!(child.hear::<String>(), "drained");
    child.finish();
}

/// A terminal that is there until the descriptor is closed, and the path by which a process gets it.
fn terminal() -> (OwnedFd, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    (terminal, path)
}
