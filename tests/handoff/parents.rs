//! Who the parent is: a supervisor or a container's init takes the end of this process for the end of the service, so it hands over to
//! no process that it starts itself. A shell does not.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, thread};

use rustix::process::Signal;

use crate::support::{
    clients::{Clients, Habit},
    needs,
    service::{Service, is_running},
};

const BUSY: usize = 4;

/// It reads the standard input of its parent, and says its lines there.
const SUPERVISED: &str = r#"[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=%(here)s/supervisord.pid

[program:app]
command=/bin/sh -c 'exec "$0" --exact subprocess --nocapture --test-threads=1 --quiet </proc/$PPID/fd/0' %(here)s/program
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
stderr_logfile=/dev/stderr
stderr_logfile_maxbytes=0
"#;

fn under_tini(folder: &Path) -> Command {
    needs::program("tini", "tini");
    let mut tini = Command::new("tini");
    tini.args(["-s", "--"]).arg(folder.join("program"));
    tini
}

fn under_supervisord(folder: &Path) -> Command {
    needs::program("supervisord", "supervisor");
    let path = folder.join("supervisord.conf");
    fs::write(&path, SUPERVISED).unwrap();
    let mut supervisord = Command::new("sh");
    supervisord.args(["-c", "exec supervisord -n -c \"$0\""]).arg(path);
    supervisord
}

/// A shell of that name, which waits for the service.
fn under_a_shell_named(name: &str) -> impl Fn(&Path) -> Command {
    move |folder| {
        let path = folder.join(name);
        fs::copy("/bin/sh", &path).unwrap();
        let mut shell = Command::new(path);
        shell.args(["-c", "\"$@\"; exit $?", "sh"]).arg(folder.join("program"));
        shell
    }
}

/// Links the program as [`Service::start`] does it.
fn start(settings: &str, make: impl Fn(&Path) -> Command) -> Service {
    Service::start_as(settings, |folder| {
        symlink(std::env::current_exe().unwrap(), folder.join("program")).unwrap();
        make(folder)
    })
}

/// Each way to ask is refused with the reason, and no client loses a request; the parent ends with the service, and not before.
#[track_caller]
fn refused(parent: &str, make: impl Fn(&Path) -> Command) {
    let mut service = start("", make);
    let old = service.who();
    let parent_pid = parent_of(old.pid);
    let words = [&format!("({parent}), a supervisor"), "handoff_by_spawn(true)", "handoff_socket"];
    let check = |text: &str| assert!(words.iter().all(|word| text.contains(word)), "{text}");
    let clients = Clients::new(service.addr, Habit { posts: true, ..Habit::default() });
    thread::scope(|scope| {
        let _stop = clients.stop_on_drop();
        (0..BUSY).for_each(|_| drop(scope.spawn(|| clients.run())));
        clients.wait_for(50);
        for (count, signal) in (1..).zip([Signal::HUP, Signal::USR2]) {
            service.signal(old.pid, signal);
            let failed = service.wait_for_some(count, |line| line.text.starts_with("failed "));
            failed.iter().for_each(|line| check(&line.text));
        }
        check(&service.ask_to_hand_over().unwrap_err());
        clients.wait_for(50);
    });
    assert_eq!(service.who(), old);
    let outcome = clients.outcome().clone();
    assert!(outcome.lost.is_empty(), "lost requests: {:#?}\n{}", outcome.lost, service.log());
    let log = fs::read_to_string(service.folder().join("log")).unwrap();
    let warned: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warned.len(), 1, "{log}");
    check(warned[0]);

    assert!(is_running(parent_pid));
    service.signal(old.pid, Signal::TERM);
    service.wait_for_word(old.pid, "ends ");
    service.wait_for_end(old.pid);
    if parent == "supervisord" {
        service.signal(parent_pid, Signal::TERM);
    }
    service.wait_for_all();
}

fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn under_tini_no_next_process_is_started_and_the_container_goes_on() {
    refused("tini", under_tini);
}

#[test]
fn under_supervisord_no_next_process_is_started_and_the_program_goes_on() {
    refused("supervisord", under_supervisord);
}

#[test]
fn under_runsv_and_its_like_no_next_process_is_started() {
    refused("runsv", under_a_shell_named("runsv"));
}

#[test]
fn under_a_shell_each_generation_hands_over() {
    let service = start("", under_a_shell_named("sh"));
    for _ in 0..3 {
        service.hand_over();
    }
    assert!(!service.log().contains(" WARN "), "{}", service.log());
    service.end();
}

#[test]
fn handoff_by_spawn_decides_whatever_the_parent_is() {
    let service = start("by_spawn=1", under_a_shell_named("runsv"));
    service.hand_over();
    service.hand_over();
    service.end();
    let service = start("by_spawn=0", under_a_shell_named("sh"));
    let reason = service.ask_to_hand_over().unwrap_err();
    assert!(reason.contains("handoff_by_spawn(false) is set"), "{reason}");
    assert!(!service.log().contains(" WARN "), "{}", service.log());
    service.end();
}
