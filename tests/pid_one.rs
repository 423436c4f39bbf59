//! The first process of a container, without an init: in a pid namespace of its own it hears the signals that stop it, also
//! before it serves, and buries the orphans that it inherits, but takes nobody's children.
//!
//! Needs root, for the namespace, and Debian's package util-linux.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support {
    pub(crate) mod child;
    pub(crate) mod eventually;
    pub(crate) mod needs;
}

use std::{
    fs,
    process::{self, Command},
    time::Duration,
};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Server};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{runtime::Runtime, task::spawn_blocking, time::sleep};

use self::support::{
    child::{self, Child, Scene, Stage},
    eventually::eventually,
    needs,
};

const CHILDREN: i32 = 60;

#[test]
fn scene() {
    child::play(&[
        ("serve", serve),
        ("start slowly", start_slowly),
        ("bury", |stage| bury(stage, Some(Duration::from_secs(3)))),
        ("do not bury", |stage| bury(stage, None)),
        ("wait late", wait_late),
        ("bury elsewhere", bury_elsewhere),
    ]);
}

#[test]
fn sigterm_and_sigint_drain() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut container = container("serve");
        assert_eq!(container.hear::<u32>(), 1, "it is PID 1");
        kill_process(first_process(&container), signal).unwrap();
        assert_eq!(container.hear::<String>(), "drained");
        container.finish();
    }
}

/// The kernel does not deliver to PID 1 what it does not handle.
#[test]
fn a_sigterm_before_it_serves_is_heard() {
    let mut container = container("start slowly");
    assert_eq!(container.hear::<u32>(), 1, "it is PID 1");
    kill_process(first_process(&container), Signal::TERM).unwrap();
    container.tell("go on");
    assert_eq!(container.hear::<String>(), "drained");
    container.finish();
}

#[test]
fn orphans_are_buried_and_every_child_keeps_its_exit_status() {
    let mut container = container("bury");
    assert_eq!(container.hear::<Vec<i32>>(), (0..CHILDREN).collect::<Vec<_>>(), "of tokio");
    assert_eq!(container.hear::<Vec<i32>>(), (0..CHILDREN).collect::<Vec<_>>(), "of std");
    assert_eq!(container.hear::<usize>(), 0, "zombies");
    container.finish();
}

#[test]
fn without_being_told_to_it_buries_nobody() {
    let mut container = container("do not bury");
    assert_eq!(container.hear::<Vec<i32>>(), (0..CHILDREN).collect::<Vec<_>>(), "of tokio");
    assert_eq!(container.hear::<Vec<i32>>(), (0..CHILDREN).collect::<Vec<_>>(), "of std");
    assert_eq!(container.hear::<usize>(), usize::try_from(2 * CHILDREN).unwrap(), "zombies");
    container.finish();
}

#[test]
fn a_child_is_waited_for_later_within_the_time_and_not_after_it() {
    let mut container = container("wait late");
    assert_eq!(container.hear::<Option<i32>>(), Some(7), "within the time");
    assert_eq!(container.hear::<Option<i32>>(), None, "after it");
    container.finish();
}

#[test]
fn who_is_not_pid_one_buries_nobody() {
    let mut child = Scene::new("bury elsewhere").start();
    assert_eq!(child.hear::<Option<i32>>(), Some(7));
    child.finish();
}

/// The scene as the first process of a pid namespace.
fn container(scene: &'static str) -> Child {
    needs::program("unshare", "util-linux");
    assert!(rustix::process::geteuid().is_root(), "this test needs root, for a pid namespace");
    let test = std::env::current_exe().unwrap();
    Scene::new(scene)
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

fn serve(stage: &Stage) {
    Runtime::new().unwrap().block_on(async {
        let serves = async { stage.say(process::id()) };
        let (report, ()) = tokio::join! { biased; server().run(), serves };
        assert!(report.unwrap().is_clean());
        stage.say("drained");
    });
}

fn start_slowly(stage: &Stage) {
    Runtime::new().unwrap().block_on(async {
        let server = server();
        stage.say(process::id());
        stage.hear();
        assert!(server.run().await.unwrap().is_clean());
        stage.say("drained");
    });
}

/// Children that leave an orphan each and end with a status of their own, while a server runs; then how many zombies there are.
fn bury(stage: &Stage, within: Option<Duration>) {
    Runtime::new().unwrap().block_on(async {
        let server = server();
        let drain = server.drain();
        let running = tokio::spawn(match within {
            Some(within) => server.reap_orphans(within).run(),
            None => server.run(),
        });
        let of_tokio = (0..CHILDREN).map(|code| async move {
            let status = tokio::process::Command::from(leaves_an_orphan(code)).status().await;
            status.ok().and_then(|status| status.code()).unwrap_or(-1)
        });
        stage.say(futures_util::future::join_all(of_tokio).await);
        let of_std = (0..CHILDREN).map(|code| async move {
            let status = spawn_blocking(move || leaves_an_orphan(code).status()).await.unwrap();
            status.ok().and_then(|status| status.code()).unwrap_or(-1)
        });
        stage.say(futures_util::future::join_all(of_std).await);
        // Every orphan has ended by then.
        eventually("no orphan runs", || children("S").is_empty() && children("R").is_empty());
        if within.is_some() {
            eventually("all are buried", || children("Z").is_empty());
        }
        stage.say(children("Z").len());
        drain.start();
        running.await.unwrap().unwrap();
    });
}

fn wait_late(stage: &Stage) {
    Runtime::new().unwrap().block_on(async {
        let within = Duration::from_secs(3);
        let server = server().reap_orphans(within);
        let drain = server.drain();
        let running = tokio::spawn(server.run());
        let (mut first, mut second) = (leaves_an_orphan(7).spawn().unwrap(), leaves_an_orphan(7).spawn().unwrap());
        // It is the time that is tested.
        sleep(within / 3).await;
        stage.say(first.try_wait().ok().flatten().and_then(|status| status.code()));
        eventually("the other is buried", || children("Z").is_empty());
        stage.say(second.try_wait().ok().flatten().and_then(|status| status.code()));
        drain.start();
        running.await.unwrap().unwrap();
    });
}

fn bury_elsewhere(stage: &Stage) {
    Runtime::new().unwrap().block_on(async {
        let server = server().reap_orphans(Duration::ZERO);
        let drain = server.drain();
        let running = tokio::spawn(server.run());
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        eventually("it has ended", || fs::read_to_string(&stat).unwrap().contains(") Z "));
        // Time enough to bury it.
        sleep(Duration::from_secs(1)).await;
        drain.start();
        running.await.unwrap().unwrap();
        stage.say(child.try_wait().unwrap().and_then(|status| status.code()));
    });
}

/// A shell that starts another, which outlives it, and ends with `code`.
fn leaves_an_orphan(code: i32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("sh -c 'sleep 0.1; exit 0' & exit {code}")]);
    command
}

/// The children of this process in that state.
fn children(state: &str) -> Vec<String> {
    let own = format!(") {state} {} ", process::id());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(&own)).collect()
}
