//! Signals in quick succession, and while a handoff is under way.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::roll_back::{rolls_back, under_load};
use crate::support::{
    needs,
    service::{Line, Service, who},
    wait::{find, until},
};

/// Both signals that ask for a handoff.
const HANDOFF: [Signal; 2] = [Signal::HUP, Signal::USR2];

/// A program that waits at the gate `go`, before it becomes the test binary; its pid stands in `pid`.
const LATE: &str = "#!/bin/sh\ncd FOLDER\necho $$ >pid.draft\nmv pid.draft pid\nread -r _ <go\nexec PROGRAM \"$@\"\n";

#[test]
fn a_storm_of_signals_at_a_process_that_has_no_handlers_yet_does_not_end_it() {
    let service = Service::start("");
    let (folder, program) = (service.folder(), service.program());
    service.gate("import.gate");
    service.gate("go");
    let late = folder.join("late");
    let text = LATE.replace("FOLDER", folder.to_str().unwrap());
    fs::write(&late, text.replace("PROGRAM", env::current_exe().unwrap().to_str().unwrap())).unwrap();
    fs::set_permissions(&late, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(late, &program).unwrap();
    service.plan("import", "wait");
    thread::scope(|scope| {
        let asked = scope.spawn(|| service.ask_to_hand_over());
        let new = pid_in(&folder.join("pid"));
        for _ in 0..100 {
            HANDOFF.into_iter().for_each(|signal| service.signal(new, signal));
        }
        service.open("go");
        // Its own handlers are there when it imports the state.
        while !service.lines().iter().any(|line| line.text == "at import wait") {
            assert!(!asked.is_finished(), "{:?}", asked.join());
            for signal in HANDOFF {
                let _ = kill_process(Pid::from_raw(new.try_into().unwrap()).unwrap(), signal);
            }
            thread::yield_now();
        }
        service.signal(new, Signal::HUP);
        service.open("import.gate");
        assert_eq!(asked.join().unwrap(), Ok(new), "{}", service.log());
    });
    // What came when it had handlers is heard when it serves.
    let imported = |line: &Line| line.text.starts_with("imports ");
    let last = service.wait_for_some(2, imported).remove(1).pid;
    service.wait_for_word(last, "is alone");
    service.end();
}

/// The pid in that file, once it is there.
fn pid_in(file: &Path) -> u32 {
    find(
        || format!("a pid in {}", file.display()),
        || fs::read_to_string(file).ok().and_then(|pid| pid.trim().parse().ok()),
    )
}

#[test]
fn a_signal_that_the_program_leaves_alone_ends_every_generation() {
    for generation in 0..2 {
        let mut service = Service::start("handoff_signals=0");
        for _ in 0..generation {
            let new = service.ask_to_hand_over().unwrap();
            service.wait_for_word(new, "is alone");
        }
        let last = service.who();
        assert_eq!(last.generation, generation);
        service.signal(last.pid, Signal::HUP);
        service.wait_for_all();
        assert!(!service.lines().iter().any(|line| line.pid == last.pid && line.text.starts_with("ends")));
    }
}

#[test]
fn a_child_of_the_service_has_the_same_limit_and_signals_in_every_generation() {
    // As systemd has it: a soft limit that is lower than the hard one.
    let service = Service::start_as("", |folder| {
        let program = folder.join("program");
        symlink(env::current_exe().unwrap(), &program).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn 900; exec \"$@\"", "sh"]).arg(program);
        command
    });
    let first = service.get("/child");
    assert!(first.contains("SigIgn"), "{first}");
    for _ in 0..2 {
        service.hand_over();
        assert_eq!(service.get("/child"), first);
    }
    let limits = service.wait_for_some(3, |line| line.text.starts_with("may open "));
    assert!(
        limits.iter().all(|line| line.text == "may open Some(900)"),
        "each begins with the limit of the first: {limits:?}"
    );
    service.end();
}

#[test]
fn signals_that_the_parent_has_blocked_are_received() {
    needs::program("python3", "python3");
    let block = "import os, signal, sys\n\
                 signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n\
                 os.execv(sys.argv[1], sys.argv[1:])";
    for current_thread in [0, 1] {
        let start = || {
            Service::start_as(&format!("current_thread={current_thread}"), |folder| {
                let program = folder.join("program");
                symlink(env::current_exe().unwrap(), &program).unwrap();
                let mut command = Command::new("python3");
                command.args(["-c", block]).arg(program);
                command
            })
        };
        for signal in HANDOFF {
            let service = start();
            let first = service.who();
            service.signal(first.pid, signal);
            service.wait_until_after(first);
            service.end();
        }
        for signal in [Signal::TERM, Signal::INT] {
            let mut service = start();
            service.signal(service.who().pid, signal);
            service.wait_for_all();
        }
    }
}

#[test]
fn a_signal_that_ends_the_new_process_is_named() {
    let plan = |service: &Service| service.plan("start", "kill self");
    rolls_back(Service::start(""), "ended before it was ready (signal: 9 (SIGKILL))", plan, |_| {});
}

#[test]
fn of_30_hang_ups_in_a_second_each_is_a_hand_over_or_refused_and_nothing_is_left_over() {
    under_load(Service::start(""), |service| {
        let started = Instant::now();
        for turn in 1..=30 {
            service.signal(service.who().pid, Signal::HUP);
            until(started + turn * Duration::from_millis(33));
        }
        // When another handoff succeeds, none is under way.
        while service.ask_to_hand_over().is_err() {}
        let last = service.who();
        service.wait_for_word(last.pid, "is alone");
        for pid in service.pids().into_iter().filter(|pid| *pid != last.pid) {
            service.wait_for_end(pid);
        }
        let started = service.lines().iter().filter(|line| line.text == "starts").count() as u64;
        assert_eq!(started, last.generation + 1, "each that was started has served");
        assert!(service.lines().iter().all(|line| !line.text.starts_with("fail")), "{:#?}", service.lines());
    });
}

#[test]
fn a_hand_over_while_one_is_under_way_is_refused() {
    under_load(Service::start(""), |service| {
        service.gate("import.gate");
        service.plan("import", "wait");
        thread::scope(|scope| {
            let first = scope.spawn(|| service.ask_to_hand_over());
            service.wait_for(|line| line.text == "at import wait");
            let reason = service.ask_to_hand_over().unwrap_err();
            assert!(reason.contains("another handoff is under way"), "{reason}");
            service.open("import.gate");
            first.join().unwrap().unwrap();
        });
    });
}

/// Nothing is left running, whatever the new one was about to do.
#[track_caller]
fn stopped(step: &str, words: &str) {
    let mut service = Service::start("");
    let old = service.who();
    service.plan(step, words);
    thread::scope(|scope| {
        let asked = scope.spawn(|| service.ask_to_hand_over());
        let new = service.wait_for(|line| line.text == format!("at {step} {words}")).pid;
        service.signal(old.pid, Signal::TERM);
        let reason = asked.join().unwrap().unwrap_err();
        assert!(reason.contains("asked to stop"), "{reason}");
        service.wait_for_end(new);
    });
    let report = service.wait_for_word(old.pid, "ends ");
    assert!(report.contains(" 0 errors, 0 aborted"), "{report}");
    // Standard output, which all of them share, has come to its end.
    service.wait_for_all();
    assert_eq!(service.running(), Vec::<u32>::new());
}

#[test]
fn a_stop_in_the_middle_of_a_hand_over_wins() {
    stopped("start", "hang");
    stopped("import", "hang");
    stopped("ready", "hang");
}

#[test]
fn a_stop_while_a_make_service_does_not_answer_ends_both_at_once() {
    let mut service = Service::start("make=1 drain_timeout=1000");
    let old = service.who();
    service.plan("make", "hang");
    let _hangs = service.connect();
    service.wait_for(|line| line.text == "at make hang");
    service.signal(old.pid, Signal::HUP);
    service.wait_for_log("the successor is ready, this process stops accepting");
    let new = *service.pids().last().unwrap();
    assert_ne!(new, old.pid);
    service.signal(old.pid, Signal::TERM);
    service.wait_for_end(new);
    service.wait_for_word(old.pid, "ends ");
    service.wait_for_all();
}

#[test]
fn a_make_service_that_does_not_answer_fails_the_hand_over_and_not_the_service() {
    let service = Service::start("make=1 handoff_timeout=2000");
    service.gate("make.gate");
    let old = service.who();
    service.plan("make", "wait");
    let mut waits = service.connect();
    service.wait_for(|line| line.text == "at make wait");
    service.signal(old.pid, Signal::HUP);
    let reason = service.wait_for_word(old.pid, "failed ");
    assert!(reason.contains("the route \"http\" has not stopped accepting within 2s"), "{reason}");
    service.open("make.gate");
    assert_eq!(who(&mut waits), old);
    service.hand_over();
    service.end();
}

#[test]
fn a_stop_of_the_new_one_while_it_imports_ends_it_at_once_and_the_old_one_learns_of_it() {
    // Longer than this test waits for anything.
    let service = Service::start("handoff_timeout=600000");
    let old = service.who();
    service.plan("import", "hang");
    thread::scope(|scope| {
        let asked = scope.spawn(|| service.ask_to_hand_over());
        let new = service.wait_for(|line| line.text == "at import hang").pid;
        service.signal(new, Signal::TERM);
        let reason = asked.join().unwrap().unwrap_err();
        assert!(reason.contains("it is stopping"), "{reason}");
        service.wait_for_end(new);
    });
    assert_eq!(service.who(), old);
    service.hand_over();
    service.end();
}

#[test]
fn a_stop_of_the_old_one_after_the_commit_leaves_the_new_one_serving() {
    let service = Service::start("");
    service.gate("gate");
    let mut held = service.connect();
    held.ask("/slow/gate/1").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    let old = service.who();
    let new = service.hand_over();
    service.signal(old.pid, Signal::TERM);
    assert_eq!(service.who(), new);
    service.open("gate");
    assert_eq!(held.answer().unwrap().text(), "1");
    service.wait_for_end(old.pid);
    service.wait_for_word(new.pid, "is alone");
    service.hand_over();
    service.end();
}

#[test]
fn a_stop_of_the_new_one_while_the_old_one_drains_ends_both() {
    let mut service = Service::start("");
    service.gate("gate");
    let mut held = service.connect();
    held.ask("/slow/gate/1").unwrap();
    service.wait_for(|line| line.text == "holds gate");
    let old = service.who();
    let new = service.hand_over();
    service.signal(new.pid, Signal::TERM);
    service.wait_for_word(new.pid, "ends ");
    service.open("gate");
    assert_eq!(held.answer().unwrap().text(), "1", "the old one finishes what it has");
    service.wait_for_word(old.pid, "ends ");
    service.wait_for_all();
    assert_eq!(service.running(), Vec::<u32>::new());
}
