//! In a container of its own with an init: the end of the program is the end of the container, unless a shell stands in between.

use super::{
    harness::{Process, get, under_load_of_new_connections, wait_for_generation, who},
    process::Settings,
};

#[track_caller]
fn refused(script: &str, settings: &Settings, reason: &str) {
    let service = Process::start_under_init(settings, script);
    let addr = service.addr();
    let old = who(addr);
    under_load_of_new_connections(addr, |clients| {
        let answer = get(addr, "/handover");
        for word in ["failed ", reason, "handoff_by_spawn(true)", "handoff_socket"] {
            assert!(answer.contains(word), "{answer}");
        }
        clients.wait_for(50);
    });
    assert_eq!(who(addr), old);
}

#[test]
fn an_init_of_a_few_lines_keeps_its_container_when_a_hand_over_is_asked_for() {
    refused(r#""$@"; exit $?"#, &Settings::default(), "the parent is PID 1 (bash)");
}

#[test]
fn the_first_process_keeps_its_container_when_a_hand_over_is_asked_for() {
    refused(r#"exec "$@""#, &Settings::default(), "this process is PID 1");
}

#[test]
fn the_policy_holds_for_a_plain_successor_and_without_server() {
    let plain = Settings { plain: Some(super::process::Plain::Notifies), ..Settings::default() };
    let alone = Settings { alone: true, ..Settings::default() };
    for settings in [plain, alone] {
        refused(r#""$@"; exit $?"#, &settings, "the parent is PID 1 (bash)");
    }
}

/// Each next one is a child of an init that is not systemd, which is what the first one's parent must not be.
#[test]
fn below_a_shell_in_a_container_each_generation_hands_over() {
    for alone in [false, true] {
        let settings = Settings { alone, ..Settings::default() };
        let service = Process::start_under_init(&settings, r#"bash -c '"$@"; exit $?' sh "$@"; exec sleep 1000"#);
        let addr = service.addr();
        under_load_of_new_connections(addr, |_| {
            for generation in 1..=3 {
                let answer = get(addr, "/handover");
                assert!(answer.starts_with("over to "), "{answer}");
                wait_for_generation(addr, generation);
                service.hear("ends ");
            }
        });
    }
}
