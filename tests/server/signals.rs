//! SIGTERM and SIGINT, in a process of their own.

use std::{convert::Infallible, os::unix::process::ExitStatusExt, time::Duration};

use axum::Router;
use axum_activation::{ActivatedListeners, ListenAddr, Server};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

use super::running::{Gate, wait_until_refused};
use crate::support::{
    http::Client,
    sockets,
    subprocess::{Child, ChildIo, Subprocess},
};

/// What the child tells the test.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    /// It serves.
    Ready,
    /// A request waits.
    Arrived,
    /// It has seen its so many-th SIGTERM.
    Terminated(u32),
    Advanced,
    Done {
        aborted: u64,
        clean: bool,
    },
}

/// Obeys the test and serves, until a signal ends the serving.
async fn serve(io: &ChildIo, server: impl FnOnce(ActivatedListeners, Router) -> Server) {
    let gate = Gate::new();
    let set = ActivatedListeners::from_env().unwrap();
    tokio::spawn(obey(gate.clone()));
    tokio::spawn(count_terminations());
    let report = server(set, gate.app()).run().await.unwrap();
    io.say(Event::Done { aborted: report.listeners[0].aborted, clean: report.is_clean() });
}

/// Does what the test says. While it waits for that, a paused clock stands still.
async fn obey(gate: Gate) {
    loop {
        let command = spawn_blocking(|| ChildIo.hear()).await.unwrap();
        match command.as_str() {
            "" => return,
            "await arrival" => {
                gate.arrival().await;
                ChildIo.say(Event::Arrived);
            }
            "open" => gate.open(),
            milliseconds => {
                tokio::time::advance(Duration::from_millis(milliseconds.parse().unwrap())).await;
                ChildIo.say(Event::Advanced);
            }
        }
    }
}

async fn count_terminations() {
    let mut terminations = signal(SignalKind::terminate()).unwrap();
    ChildIo.say(Event::Ready);
    for count in 1.. {
        terminations.recv().await;
        ChildIo.say(Event::Terminated(count));
    }
}

#[tokio::main]
pub(crate) async fn serve_until_signalled(io: &ChildIo) {
    serve(io, |set, app| Server::new(set).serve("http", app)).await;
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn serve_on_a_paused_clock(io: &ChildIo) {
    serve(io, |set, app| Server::new(set).serve("http", app)).await;
}

#[tokio::main]
pub(crate) async fn serve_without_signals(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    tokio::spawn(async { ChildIo.say(Event::Ready) });
    let report = Server::new(set).serve("http", Gate::new().app()).without_signals().run().await;
    io.say(report.unwrap().to_string());
}

/// A child with one request in flight.
struct Serving {
    child: Child,
    addr: ListenAddr,
    client: Client,
}

impl Serving {
    #[track_caller]
    fn start(subprocess: &'static str) -> Self {
        let socket = sockets::tcp();
        let addr = sockets::addr(&socket);
        let mut child = Subprocess::passed(subprocess, [("http", socket.into())]).start();
        assert_eq!(child.hear::<Event>(), Event::Ready);
        let mut client = Client::connect(&addr).unwrap();
        client.ask("/wait").unwrap();
        child.tell("await arrival");
        assert_eq!(child.hear::<Event>(), Event::Arrived);
        Self { child, addr, client }
    }

    #[track_caller]
    fn terminate(&mut self, count: u32) {
        self.child.signal(Signal::TERM);
        assert_eq!(self.child.hear::<Event>(), Event::Terminated(count));
    }

    #[track_caller]
    fn advance(&mut self, milliseconds: u32) {
        self.child.tell(&milliseconds.to_string());
        assert_eq!(self.child.hear::<Event>(), Event::Advanced);
    }

    /// The request that waited is answered, and the child ends in order.
    #[track_caller]
    fn ends_clean(mut self) {
        self.child.tell("open");
        assert_eq!(self.client.answer().unwrap().text(), "let go");
        assert!(self.client.is_closed());
        // Else the server waits a second for it, on a clock that may be paused.
        drop(self.client);
        assert_eq!(self.child.hear::<Event>(), Event::Done { aborted: 0, clean: true });
        self.child.finish();
    }
}

#[test]
fn sigterm_finishes_what_is_in_flight() {
    let serving = Serving::start("serve_until_signalled");
    serving.child.signal(Signal::TERM);
    wait_until_refused(&serving.addr);
    let mut serving = serving;
    assert_eq!(serving.child.hear::<Event>(), Event::Terminated(1));
    serving.ends_clean();
}

#[test]
fn sigint_finishes_what_is_in_flight() {
    let serving = Serving::start("serve_until_signalled");
    serving.child.signal(Signal::INT);
    wait_until_refused(&serving.addr);
    serving.ends_clean();
}

#[test]
fn a_signal_within_a_second_of_the_first_is_a_repeat_of_it() {
    let mut serving = Serving::start("serve_on_a_paused_clock");
    serving.terminate(1);
    wait_until_refused(&serving.addr);
    serving.terminate(2);
    serving.advance(999);
    serving.terminate(3);
    serving.ends_clean();
}

#[test]
fn a_signal_a_second_after_the_first_aborts_at_once() {
    let mut serving = Serving::start("serve_on_a_paused_clock");
    serving.terminate(1);
    wait_until_refused(&serving.addr);
    serving.advance(1000);
    serving.child.signal(Signal::INT);
    assert!(serving.client.is_closed());
    assert_eq!(serving.child.hear::<Event>(), Event::Done { aborted: 1, clean: false });
    serving.child.finish();
}

/// As axum's examples end: with a future of the program's own.
#[tokio::main]
pub(crate) async fn serve_until_its_own_signal(io: &ChildIo) {
    let set = ActivatedListeners::from_env().unwrap();
    let refuse = async || {
        ChildIo.say("asked to hand over");
        Err::<(), _>("not now")
    };
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let shutdown_signal = async move { terminate.recv().await.unwrap() };
    // By then the signals have handlers.
    let ready = async {
        ChildIo.say(Event::Ready);
        Ok::<_, Infallible>(())
    };
    let server = Server::new(set).serve("http", Gate::new().app()).before_handoff(refuse).ready_when(ready);
    let report = server.without_signals().with_graceful_shutdown(shutdown_signal).run().await.unwrap();
    assert!(report.is_clean());
    io.say("drained");
}

#[test]
fn the_signals_that_hand_over_stay_when_those_that_end_are_left_to_the_program() {
    let socket = sockets::tcp();
    let addr = sockets::addr(&socket);
    let mut child = Subprocess::passed("serve_until_its_own_signal", [("http", socket.into())]).start();
    assert_eq!(child.hear::<Event>(), Event::Ready);
    for signal in [Signal::HUP, Signal::USR2] {
        child.signal(signal);
        assert_eq!(child.hear::<String>(), "asked to hand over");
        assert_eq!(Client::connect(&addr).unwrap().get("/").unwrap().text(), "hello");
    }
    child.signal(Signal::TERM);
    assert_eq!(child.hear::<String>(), "drained");
    child.finish();
}

#[test]
fn signals_can_be_left_to_the_program() {
    let socket = sockets::tcp();
    let mut child = Subprocess::passed("serve_without_signals", [("http", socket.into())]).start();
    assert_eq!(child.hear::<Event>(), Event::Ready);
    child.signal(Signal::TERM);
    assert_eq!(child.end().signal(), Some(Signal::TERM.as_raw()));
}
