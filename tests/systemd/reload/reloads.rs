//! `systemctl reload`, again and again, under clients that never send a request twice.

use std::{fs, thread, time::Duration};

use super::service::{ADDRESS, Service, UNIT, Way};
use crate::support::{
    clients::{Clients, Habit, Outcome, times},
    looks::{Look, Looking},
    wait::eventually,
};

const CLIENTS: usize = 16;
/// How many answers between two reloads show that the clients are back at work.
const ANSWERS_BETWEEN: u64 = 200;
/// More than any handoff takes here.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Runs clients of that habit while `work` runs, which is given them; what became of them.
pub(crate) fn under_load(service: &Service, habit: Habit, work: impl FnOnce(&Clients)) -> Outcome {
    let clients = Clients::new(ADDRESS.parse().unwrap(), habit);
    thread::scope(|scope| {
        let _stop = clients.stop_on_drop();
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                service.systemd.enter_network();
                clients.run();
            });
        }
        clients.wait_for(ANSWERS_BETWEEN);
        work(&clients);
        clients.wait_for(ANSWERS_BETWEEN);
    });
    let outcome = clients.outcome().clone();
    let Outcome { answered, opened, lost, slowest } = &outcome;
    println!(
        "{habit:?}: {answered} answered, {} lost, {opened} connections of {CLIENTS} clients, the longest gap {slowest:.0?}",
        lost.len()
    );
    outcome
}

/// Fails where a request was lost or a connection closed.
#[track_caller]
pub(crate) fn assert_nothing_lost(outcome: &Outcome, service: &Service) {
    assert!(outcome.lost.is_empty(), "{:?}\n{}", outcome.lost, service.log());
    assert_eq!(outcome.opened, CLIENTS as u64, "connections were closed\n{}", service.log());
}

/// What is said of a state, and of what is done in it, is one and the same.
pub(crate) fn is_true(look: &Look) -> bool {
    let has_process = look.main_pid > 0;
    match look.active.as_str() {
        "inactive" => !has_process,
        "activating" => has_process && (look.status.is_empty() || look.says(&["starting: "])),
        "active" => has_process && look.says(&["serving: "]),
        // systemd has started to ask, or does not know yet what the process has said.
        "reloading" => has_process && look.says(&["handing over: ", "serving: "]),
        // It is asked to stop, and then it does.
        "deactivating" => look.says(&["serving: ", "handing over: ", "draining: ", "drained in "]),
        _ => false,
    }
}

fn check(way: Way, habit: Habit) {
    if !way.is_known() {
        return;
    }
    let (service, reloads) = (Service::start(way, LONG), times("RELOADS", 20));
    let mut pids = vec![service.main_pid()];
    let looking = Looking::start(&service.systemd, UNIT);
    let outcome = under_load(&service, habit, |clients| {
        for _ in 0..reloads {
            let reload = service.reload();
            // It is true when it returns, without a wait.
            let (state, main, answering) = (service.property("ActiveState"), service.main_pid(), service.answering());
            assert!(reload.status.success(), "{reload:?}\n{}", service.log());
            assert_eq!((state.as_str(), main), ("active", answering), "{}", service.log());
            assert!(!pids.contains(&main), "{main} is no new process: {pids:?}");
            pids.push(main);
            clients.wait_for(ANSWERS_BETWEEN);
        }
    });
    let looks = looking.stop(&service.systemd);
    assert_nothing_lost(&outcome, &service);
    looks.assert_all(is_true);
    // Looks are rarer than the fastest reloads, but what they see comes in that order.
    let mut following = pids.iter();
    assert!(looks.main_pids().iter().all(|seen| following.any(|pid| pid == seen)), "{pids:?}\n{}", looks.story());
    let is_too_fast = way == Way::NotifyReload;
    assert!(is_too_fast || looks.saw(|look| look.active == "reloading"), "{}", looks.story());

    for old in &pids[..reloads] {
        eventually("the old ones are gone", || !service.lives(*old));
    }
    service.systemd.run(&["systemctl", "stop", UNIT]);
    assert_eq!(service.property("Result"), "success");
    service.assert_no_complaint();
    let log = service.log();
    for old in &pids[..reloads] {
        let report = log.lines().find(|line| line.starts_with(&format!("process {old} ends: "))).expect(&log);
        assert!(report.contains(" 0 closed idle, 0 errors, 0 aborted"), "{report}");
    }
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

const BACK_TO_BACK: Habit = Habit { posts: false, thinks: Duration::ZERO, opens: false, looks: false };
const THINKING: Habit = Habit { thinks: Duration::from_millis(40), ..BACK_TO_BACK };
const POSTING: Habit = Habit { posts: true, thinks: Duration::from_millis(10), ..BACK_TO_BACK };

#[test]
fn clients_that_ask_back_to_back_lose_nothing_and_what_systemctl_shows_is_true() {
    check(Way::ExecReload, BACK_TO_BACK);
}

#[test]
fn clients_that_think_lose_nothing_and_what_systemctl_shows_is_true() {
    check(Way::ExecReload, THINKING);
}

#[test]
fn clients_that_post_lose_nothing_and_what_systemctl_shows_is_true() {
    check(Way::ExecReload, POSTING);
}

#[test]
fn with_notify_reload_clients_that_ask_back_to_back_lose_nothing_and_what_systemctl_shows_is_true() {
    check(Way::NotifyReload, BACK_TO_BACK);
}

#[test]
fn with_notify_reload_clients_that_think_lose_nothing_and_what_systemctl_shows_is_true() {
    check(Way::NotifyReload, THINKING);
}

#[test]
fn with_notify_reload_clients_that_post_lose_nothing_and_what_systemctl_shows_is_true() {
    check(Way::NotifyReload, POSTING);
}

#[test]
fn the_new_process_runs_in_the_new_release_when_the_old_one_is_removed() {
    let service = Service::start(Way::ExecReload, LONG);
    service.deploy("v1");
    service.systemd.run(&["systemctl", "restart", UNIT]);
    assert_eq!(service.directory(), "/run/srv/v1");
    for (old, new) in [("v1", "v2"), ("v2", "v3")] {
        service.deploy(new);
        fs::remove_dir(service.systemd.path("/run/srv").join(old)).unwrap();
        let reloaded = service.reload();
        assert!(reloaded.status.success(), "{reloaded:?}\n{}", service.log());
        assert_eq!(service.directory(), format!("/run/srv/{new}"));
    }
    service.assert_no_complaint();
}
