//! Several servers in one process, of which one hands over. In processes of their own, as the other tests have servers, too.

use std::{
    io::{self, Read},
    path::Path,
    process, thread,
};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Drain, Error, Server, handoff::Handoff};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::oneshot, task::JoinHandle};

use super::running::{addr_of, tcp_set};
use crate::support::{
    http::Client,
    sockets,
    subprocess::{ChildIo, Subprocess},
    wait::eventually,
};

fn server(set: &ActivatedListeners) -> Server {
    Server::new(set.clone()).serve("http", Router::new().route("/", get(async || "hello")))
}

/// Serves until the drain begins; returns when it serves.
async fn start(server: Server) -> (Drain, JoinHandle<()>) {
    let (drain, (ready, is_ready)) = (server.drain(), oneshot::channel());
    let ready = async move { ready.send(()).map_err(|()| "the test is gone") };
    let running = tokio::spawn(async move {
        server.ready_when(ready).run().await.unwrap();
    });
    is_ready.await.unwrap();
    (drain, running)
}

#[tokio::main]
pub(crate) async fn serve_several(io: &ChildIo) {
    let first = server(&tcp_set(&["http"])).before_handoff(async || Err::<(), _>("not now"));
    let first_handoff = first.handoff();
    let (drain, running) = start(first).await;

    // The second one fails before it has taken its socket.
    let set = tcp_set(&["http"]);
    io.say(server(&set).run().await.unwrap_err().to_string());
    io.say(Handoff::builder(&set).join().await.map(drop).unwrap_err().to_string());

    // It may serve beside the first one, and leaves the handoff to that.
    let second = server(&set).without_handoff_signals();
    let second_handoff = second.handoff();
    let (other_drain, other_running) = start(second).await;
    assert_eq!(Client::connect(&addr_of(&set, "http")).unwrap().get("/").unwrap().text(), "hello");
    io.say(second_handoff.start().await.unwrap_err().to_string());
    io.say(first_handoff.start().await.unwrap_err().to_string());

    // Whichever comes when the first one has ended is the one.
    drain.start();
    running.await.unwrap();
    other_drain.start();
    other_running.await.unwrap();
    for _ in 0..3 {
        let (drain, running) = start(server(&tcp_set(&["http"]))).await;
        drain.start();
        running.await.unwrap();
    }
    let dropped = tokio::spawn(server(&tcp_set(&["http"])).run());
    tokio::task::yield_now().await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    let (drain, running) = start(server(&tcp_set(&["http"]))).await;
    drain.start();
    running.await.unwrap();
    io.say("all have ended");
}

/// Two servers over one set, of which one hands over and both end.
#[tokio::main]
pub(crate) async fn hand_over_both(io: &ChildIo) {
    thread::spawn(|| {
        // The end of the test is the end of all generations.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    let set = ActivatedListeners::builder().fallback("one", "127.0.0.1:0").fallback("two", "127.0.0.1:0");
    let set = set.from_env().unwrap();
    let app = || Router::new().route("/", get(async || process::id().to_string()));
    let one = Server::new(set.clone()).serve("one", app()).allow_unserved();
    let two = Server::new(set.clone()).serve("two", app()).allow_unserved();
    let two = two.without_handoff_signals().with_drain(one.drain());
    io.say(["one", "two"].map(|name| addr_of(&set, name).to_string()));
    tokio::try_join!(one.run(), two.run()).unwrap();
}

#[tokio::main]
pub(crate) async fn hand_over_alone_beside(io: &ChildIo) {
    let serving = async |set| -> Result<_, Error> { Handoff::builder(&set).join().await?.ready(&Drain::new()).await };
    let first = serving(tcp_set(&["http"])).await.unwrap();
    let (one, two) = (tcp_set(&["http"]), tcp_set(&["http"]));
    io.say(server(&one).run().await.unwrap_err().to_string());
    io.say(serving(two).await.map(drop).unwrap_err().to_string());
    // As soon as it is dropped, and as soon as it has finished.
    drop(first);
    serving(tcp_set(&["http"])).await.unwrap().finish().await;
    drop(Handoff::builder(&tcp_set(&["http"])).join().await.unwrap());
    let (drain, running) = start(server(&one)).await;
    drain.start();
    running.await.unwrap();
    io.say("all have ended");
}

#[test]
fn a_second_server_that_would_hand_over_fails_before_it_serves_and_says_what_to_write() {
    let mut child = Subprocess::passed("serve_several", [("unused", sockets::tcp().into())]).start();
    for _ in ["Server", "Handoff::builder"] {
        let error: String = child.hear();
        for word in ["one Server", "without_handoff_signals()", "without_signals() of Handoff::builder", "with_drain"] {
            assert!(error.contains(word), "{error}");
        }
    }
    let error: String = child.hear();
    assert!(error.contains("another server of this process hands it over"), "{error}");
    let error: String = child.hear();
    assert!(error.contains("not now"), "{error}");
    assert_eq!(child.hear::<String>(), "all have ended");
    child.finish();
}

#[test]
fn a_server_beside_the_one_that_hands_over_goes_over_with_it() {
    let mut first = Subprocess::new("hand_over_both").start();
    let addrs = first.hear::<[String; 2]>();
    let who = |addr: &String| Client::connect(addr.as_str()).unwrap().get("/").unwrap().text().parse::<i32>().unwrap();
    let mut pid = first.pid().as_raw_nonzero().get();
    for _ in 0..3 {
        assert_eq!(addrs.each_ref().map(who), [pid; 2]);
        kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
        assert_eq!(first.hear::<[String; 2]>(), addrs);
        eventually("the next process serves both", || {
            let [one, two] = addrs.each_ref().map(who);
            one == two && one != pid
        });
        eventually("the old one has ended", || !Path::new(&format!("/proc/{pid}/exe")).exists());
        pid = who(&addrs[0]);
    }
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    first.finish();
}

#[test]
fn a_hand_over_without_server_counts_as_a_server() {
    let mut child = Subprocess::new("hand_over_alone_beside").start();
    for _ in ["Server", "Handoff::builder"] {
        let error: String = child.hear();
        assert!(error.contains("without_handoff_signals()"), "{error}");
    }
    assert_eq!(child.hear::<String>(), "all have ended");
    child.finish();
}
