//! The next process says no, or never says anything: before it is ready, nothing has changed.

use super::roll_back::rolls_back;
use crate::support::service::Service;

#[track_caller]
fn planned(settings: &str, step: &str, words: &str, says: &str) {
    rolls_back(Service::start(settings), says, |service| service.plan(step, words), |_| {});
}

#[test]
fn a_process_that_exits_before_it_is_ready_changes_nothing() {
    planned("", "start", "exit 3", "ended before it was ready");
}

#[test]
fn a_process_that_exits_in_order_before_it_is_ready_changes_nothing() {
    planned("", "ready", "exit 0", "ended before it was ready");
}

#[test]
fn a_process_that_crashes_changes_nothing() {
    planned("", "start", "abort", "ended before it was ready");
    planned("", "import", "abort", "ended before it was ready");
}

#[test]
fn a_process_that_hangs_is_killed_when_the_time_is_over() {
    planned("handoff_timeout=300", "start", "hang", "it was not ready within 300ms (handoff_timeout)");
    planned("handoff_timeout=300", "ready", "hang", "it was not ready within 300ms (handoff_timeout)");
}

#[test]
fn a_state_that_cannot_be_imported_changes_nothing() {
    planned(
        "",
        "import",
        "fail of another planet",
        r#"the state "numbers" of the predecessor cannot be imported: of another planet"#,
    );
}

#[test]
fn a_process_that_cannot_get_ready_says_why_and_changes_nothing() {
    planned("", "ready", "fail the database is away", "the database is away");
}

#[test]
fn a_hook_before_the_start_can_say_no() {
    planned("", "before", "fail not on a Friday", "the hook before the start says no: not on a Friday");
}

#[test]
fn a_state_that_cannot_be_exported_calls_it_off() {
    planned("", "export", "fail too much of it", r#"the state "numbers" cannot be exported: too much of it"#);
}

#[test]
fn what_the_service_runs_before_its_successor_is_ready_may_panic_and_nothing_has_changed() {
    planned("", "before", "panic", "the hook before the start says no: it panicked");
    planned("", "export", "panic", r#"the state "numbers" cannot be exported: it panicked"#);
    planned("", "import", "panic", r#"the state "numbers" of the predecessor cannot be imported: it panicked"#);
    planned("", "ready", "panic", "the service cannot start: it panicked: as planned at ready");
}

#[test]
fn an_error_of_the_service_may_panic_when_it_is_printed_and_nothing_has_changed() {
    for step in ["before", "export", "import", "ready"] {
        planned("", step, "unprintable", "it panicked: as planned at an error");
    }
}

#[test]
fn a_socket_that_the_service_has_taken_bare_is_named_until_it_is_shared() {
    let service = Service::start("bare=0");
    let path = service.folder().join("bare.sock");
    let reason = service.ask_to_hand_over().unwrap_err();
    let says = format!("it does not get \"bare\" (unix:{}), which the service has taken with `files`", path.display());
    assert!(
        reason.contains(&says) && reason.contains("`ActivatedListeners::pass_to_successor` passes it on"),
        "{reason}"
    );
    let failure = service.wait_for(|line| line.text.starts_with("fails ")).text;
    let says =
        format!("cannot listen on unix:{}: the address is in use, and the old process has not passed", path.display());
    assert!(failure.contains(&says) && failure.contains("`ActivatedListeners::pass_to_successor`"), "{failure}");
    service.end();

    let service = Service::start("bare=1");
    service.hand_over();
    service.hand_over();
    service.end();
}

#[test]
fn the_hook_on_a_failure_may_panic_and_nothing_has_changed() {
    let plan = |service: &Service| {
        service.plan("failed", "panic");
        service.plan("export", "fail too much of it");
    };
    rolls_back(Service::start(""), "too much of it", plan, |_| {});
}
