//! Whether a unit lets its service hand over: where systemd would not follow to the new process, the service refuses and serves on.

use super::{
    reloads::under_load,
    service::{ALONE, Service, UNIT},
};
use crate::support::{clients::Habit, wait::eventually};

/// `systemctl reload` and an operator's request change nothing, and the reason is logged.
#[track_caller]
fn refused(settings: &str, exec: fn(&str) -> String, reason: &str) {
    let service = Service::start_with(settings, exec);
    let (old, main) = (service.answering(), service.main_pid());
    let outcome = under_load(&service, Habit::default(), |clients| {
        if main == old {
            assert!(service.reload().status.success());
        } else {
            // A wrapper is the main process, and does not handle the signal.
            service.systemd.run(&["sh", "-c", &format!("kill -HUP {old}")]);
        }
        eventually("it is refused", || service.log().contains("the handoff has failed"));
        let asked = service.systemd.exec(&["/usr/local/bin/handoff_request", "/run/app-reload/handoff.sock"]);
        let said = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert!(!asked.status.success());
        for word in [reason, "handoff_by_spawn(true)", "handoff_socket"] {
            assert!(said.contains(word), "{said}");
            assert!(service.log().contains(word), "{}", service.log());
        }
        clients.wait_for(100);
    });
    assert!(outcome.lost.is_empty(), "{:?}\n{}", outcome.lost, service.log());
    let state = service.property("ActiveState");
    assert_eq!((state.as_str(), service.main_pid(), service.answering()), ("active", main, old), "{}", service.log());
    let log = service.log();
    assert_eq!(log.lines().filter(|line| line.contains(" WARN ")).count(), 1, "{log}");
}

/// Three in a row, by the signal; systemd follows each time.
#[track_caller]
fn hands_over(settings: &str) {
    let service = Service::start_with(settings, str::to_owned);
    let mut pids = vec![service.main_pid()];
    assert_eq!(service.answering(), pids[0]);
    for _ in 0..3 {
        let old = service.main_pid();
        assert!(service.reload().status.success());
        eventually("systemd follows", || service.main_pid() != old);
        eventually("the new one answers", || service.answering() == service.main_pid());
        eventually("the old one has ended", || !service.lives(old));
        pids.push(service.main_pid());
    }
    assert_eq!(service.property("ActiveState"), "active", "{}", service.log());
    pids.dedup();
    assert_eq!(pids.len(), 4);
    service.systemd.run(&["systemctl", "stop", UNIT]);
    assert_eq!(service.property("Result"), "success", "{}", service.log());
    assert!(!service.log().contains(" WARN "), "{}", service.log());
}

#[test]
fn a_unit_without_a_type_keeps_its_service_at_a_reload() {
    refused("", str::to_owned, "set Type=notify in the unit");
}

#[test]
fn a_unit_of_type_exec_keeps_its_service_at_a_reload() {
    refused("Type=exec", str::to_owned, "set Type=notify in the unit");
}

#[test]
fn a_unit_whose_wrapper_does_not_exec_keeps_its_service_at_a_reload() {
    let wrapped = |command: &str| format!("/bin/sh -c '{command}; exit $?'");
    refused("Type=notify\nNotifyAccess=all", wrapped, "the wrapper must exec this program");
}

#[test]
fn a_unit_of_type_notify_is_followed_at_each_reload() {
    hands_over("Type=notify");
}

/// The type says when the service counts as started; it is `NotifyAccess=` by which the new main process is heard.
#[test]
fn a_unit_of_another_type_that_hears_its_service_is_followed_too() {
    hands_over("Type=simple\nNotifyAccess=main");
}

#[test]
fn without_server_a_unit_of_type_notify_is_followed_at_each_reload() {
    hands_over(&format!("Type=notify\nEnvironment={ALONE}=1"));
}
