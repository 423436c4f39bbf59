//! A handoff that is asked for: by an operator's program, by a signal where there can be none.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use axum_activation::handoff::request_handoff;
use rustix::process::{Signal, kill_process};

use super::{
    harness::{Process, folder, met, wait_for_generation, who},
    process::Settings,
};
use crate::support::needs;

/// Runs the example program.
fn ask(path: &Path) -> Output {
    Command::new(needs::example("handoff_request")).arg(path).output().unwrap()
}

#[track_caller]
fn assert_fails(asked: &Output, says: &str) {
    let words = String::from_utf8_lossy(&asked.stderr);
    assert!(words.contains(says), "{says:?} is missing in {words:?}");
    assert_eq!((asked.status.code(), asked.stdout.is_empty()), (Some(1), true));
}

#[test]
fn an_operator_sees_the_new_pid() {
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let service = Process::start(&met(&path));
    let addr = service.addr();
    who(addr);
    let asked = ask(&path);
    assert!(asked.status.success(), "{asked:?}");
    let new = wait_for_generation(addr, 1);
    assert_eq!(String::from_utf8(asked.stdout).unwrap(), format!("process {} serves now\n", new.pid));
    service.hear("ends ");
    // The one that was started is met at the path, too.
    service.hear("is alone");
    service.hear("is alone");
    let asked = ask(&path);
    assert!(asked.status.success(), "{asked:?}");
    wait_for_generation(addr, 2).signal(Signal::TERM);
    service.hear("ends ");
    service.hear("ends ");
}

#[test]
fn an_operator_sees_why_it_failed_and_can_ask_again() {
    let folder = folder();
    let (path, plan) = (folder.path().join("handoff.sock"), folder.path().join("plan"));
    let service = Process::start(&Settings { plan: Some(plan.clone()), ..met(&path) });
    let addr = service.addr();
    let old = who(addr);
    fs::write(plan, "fail no database here").unwrap();
    assert_fails(&ask(&path), "no database here");
    assert_eq!(who(addr), old);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pid = runtime.block_on(request_handoff(&path)).unwrap();
    let new = wait_for_generation(addr, 1);
    assert_eq!(new.pid, i32::try_from(pid).unwrap());
    new.signal(Signal::TERM);
    service.hear("ends ");
    service.hear("ends ");
}

#[test]
fn an_operator_sees_where_no_process_serves() {
    let folder = folder();
    assert_fails(
        &ask(&folder.path().join("handoff.sock")),
        "no process serves there; start the service, or fix the path",
    );
}

#[test]
fn the_first_process_of_a_container_refuses_to_start_the_next_and_says_what_to_do() {
    let folder = folder();
    let inside = |name| met(PathBuf::from("/mnt").join(name).join("handoff.sock"));
    let old = Process::start_in_container(&inside("one"), folder.path(), "one");
    let addr = old.addr();
    assert_eq!(who(addr).pid, 1);
    kill_process(old.first_in_container(), Signal::HUP).unwrap();
    let reason = old.hear("failed ");
    assert!(reason.contains("PID 1"), "{reason}");
    assert_fails(&ask(&folder.path().join("handoff.sock")), "PID 1");
    assert_eq!(who(addr).generation, 0);

    let new = Process::start_in_container(&inside("two"), folder.path(), "two");
    old.ended();
    wait_for_generation(addr, 1);
    kill_process(new.first_in_container(), Signal::TERM).unwrap();
    new.ended();
}
