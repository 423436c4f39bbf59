//! Under a real systemd, booted for each test: the units that are shipped, restarts, `Accept=yes` and what goes wrong.
//!
//! Needs root and Debian's packages systemd, util-linux, bsdutils and curl.

use std::{collections::HashSet, fs, thread};

use axum_activation::ListenAddr;

use crate::support::{
    load::Load,
    systemd::{Systemd, all_shipped, has, shipped, shipped_text},
    wait::eventually,
};

const RESTARTS: usize = 5;
const CLIENTS_PER_SOCKET: usize = 2;
/// How many answers between two restarts show that the clients are back at work.
const ANSWERS_BETWEEN: u64 = 300;

const O_NONBLOCK: u32 = 0o4000;

#[test]
fn the_first_connection_starts_the_service_and_every_socket_of_every_unit_answers() {
    let systemd = Systemd::boot(&named_units());
    assert_eq!(systemd.property("named.service", "ActiveState"), "inactive");

    assert_eq!(systemd.curl(&["http://127.0.0.1:8080/"]), "hello, you came through http");
    eventually("systemd reads READY=1", || systemd.property("named.service", "ActiveState") == "active");
    assert_eq!(systemd.curl(&["http://[::1]:8080/"]), "hello, you came through http");
    assert_eq!(
        systemd.curl(&["--unix-socket", "/run/named-http.sock", "http://http/"]),
        "hello, you came through http"
    );
    assert_eq!(systemd.curl(&["http://127.0.0.1:9090/metrics"]), "named_greetings_total 3");

    let status = systemd.curl(&["--unix-socket", "/run/named-admin.sock", "http://admin/"]);
    assert!(status.contains(&format!("process {}, ", main_pid(&systemd, "named.service"))), "{status}");
    assert!(status.contains("through admin"), "{status}");
    for socket in [
        "http: 0.0.0.0:8080 (passed, taken)",
        "http: [::]:8080 (passed, taken)",
        "http: unix:/run/named-http.sock (passed, taken)",
        "admin: unix:/run/named-admin.sock (passed, taken)",
        "metrics: 127.0.0.1:9090 (passed, taken)",
    ] {
        assert!(status.lines().any(|line| line == socket), "{socket} is missing in\n{status}");
    }
    assert_eq!(status.lines().count(), 6, "{status}");
}

#[test]
fn no_connect_is_refused_while_the_service_restarts_again_and_again() {
    let systemd = Systemd::boot(&named_units());
    let targets = [
        ListenAddr::Tcp(([127, 0, 0, 1], 8080).into()),
        ListenAddr::Tcp("[::1]:8080".parse().unwrap()),
        ListenAddr::Unix(systemd.path("/run/named-http.sock")),
    ];
    let load = Load::default();
    let mut pids = HashSet::new();
    thread::scope(|scope| {
        let _stop = load.stop_on_drop();
        for target in targets.iter().flat_map(|target| [target; CLIENTS_PER_SOCKET]) {
            scope.spawn(|| {
                systemd.enter_network();
                load.run(target);
            });
        }
        answers(&load, ANSWERS_BETWEEN);
        for _ in 0..RESTARTS {
            pids.insert(main_pid(&systemd, "named.service"));
            systemd.run(&["systemctl", "restart", "named.service"]);
            answers(&load, ANSWERS_BETWEEN);
        }
        pids.insert(main_pid(&systemd, "named.service"));
    });
    println!("{RESTARTS} restarts: {load}");
    assert!(load.refused().is_empty(), "{load}, the first: {}", load.refused()[0]);
    assert_eq!(pids.len(), RESTARTS + 1, "every restart is another process");
    let drains = systemd.log("named.service").matches("drained in").count();
    assert_eq!(drains, RESTARTS, "every process ends in order:\n{}", systemd.log("named.service"));
}

#[test]
fn a_socket_unit_can_be_restarted_while_the_service_runs() {
    let systemd = Systemd::boot(&named_units());
    systemd.curl(&["http://127.0.0.1:8080/"]);
    let before = main_pid(&systemd, "named.service");
    systemd.run(&["systemctl", "restart", "named-http.socket"]);
    assert_eq!(systemd.curl(&["http://127.0.0.1:8080/"]), "hello, you came through http");
    assert_eq!(systemd.curl(&["http://127.0.0.1:9090/metrics"]), "named_greetings_total 1");
    assert_ne!(main_pid(&systemd, "named.service"), before);
}

#[test]
fn with_accept_each_connection_has_a_process_that_ends_by_itself() {
    let systemd = Systemd::boot(&[shipped("inetd.socket"), shipped("inetd@.service")]);
    let processes: Vec<_> = (0..2).map(|_| answering_process(&systemd.curl(&["http://127.0.0.1:7070/"]))).collect();
    assert_ne!(processes[0], processes[1]);

    let kept_alive = systemd.curl(&["http://127.0.0.1:7070/", "http://127.0.0.1:7070/"]);
    let kept_alive: Vec<_> = kept_alive.lines().map(answering_process).collect();
    assert_eq!(kept_alive.len(), 2);
    assert_eq!(kept_alive[0], kept_alive[1], "one connection, one process");

    assert_eq!(systemd.property("inetd.socket", "NAccepted"), "3");
    eventually("every process ends", || systemd.property("inetd.socket", "NConnections") == "0");
    for process in processes.iter().chain(&kept_alive) {
        assert!(!systemd.path(&format!("/proc/{process}")).exists(), "process {process} is still there");
    }
    assert!(!systemd.console().contains("Failed with result"), "{}", systemd.console());
}

#[test]
fn the_unit_files_that_are_shipped_have_no_fault_that_systemd_knows() {
    let systemd = Systemd::boot(&[]);
    let directory = systemd.path("/run/units");
    let mut paths = Vec::new();
    for name in all_shipped().into_iter().filter(|name| name.ends_with(".service") || name.ends_with(".socket")) {
        // An example that is installed here, in place of a program that is not.
        let text = shipped_text(&name).replace("/usr/local/bin/app\n", "/usr/local/bin/handoff\n");
        fs::write(directory.join(&name), text).expect("a unit file");
        paths.push(format!("/run/units/{name}"));
    }
    if has("notify-reload", 253) {
        fs::create_dir(directory.join("app-reload.service.d")).expect("a directory for the drop-in");
        let drop_in = shipped_text("app-notify-reload.conf");
        fs::write(directory.join("app-reload.service.d/notify-reload.conf"), drop_in).expect("the drop-in");
    }
    let mut verify = vec!["systemd-analyze", "verify", "--man=no"];
    verify.extend(paths.iter().map(String::as_str));
    let verified = systemd.exec(&verify);
    let complaints = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && complaints.is_empty(), "{complaints}");
}

#[test]
fn a_shell_in_between_is_refused_and_one_that_execs_is_not() {
    let wrapped = service("Type=oneshot\nExecStart=/bin/sh -c '/usr/local/bin/named; true'");
    let replaced = service("ExecStart=/bin/sh -c 'exec /usr/local/bin/named'");
    let systemd = Systemd::boot(&[
        ("wrapped.socket", socket("ListenStream=127.0.0.1:8001\nFileDescriptorName=http")),
        ("wrapped.service", wrapped),
        ("replaced.socket", socket("ListenStream=127.0.0.1:8002\nFileDescriptorName=http")),
        ("replaced.service", replaced),
    ]);
    systemd.run(&["systemctl", "start", "wrapped.service"]);
    let refusal = systemd.log("wrapped.service");
    assert!(refusal.contains("LISTEN_PID=") && refusal.contains("names another process"), "{refusal}");
    assert!(refusal.contains("`exec program`"), "the remedy is missing: {refusal}");

    assert_eq!(systemd.curl(&["http://127.0.0.1:8002/"]), "hello, you came through http");
}

#[test]
fn a_socket_unit_without_a_name_is_an_error_that_names_it_and_the_remedy() {
    // Its exit status is not what is tested here.
    let app = service("Type=oneshot\nExecStart=-/usr/local/bin/named");
    let systemd = Systemd::boot(&[
        ("app.socket", socket("ListenStream=127.0.0.1:8000")),
        ("app.service", app.clone()),
        ("clash.socket", socket("ListenStream=[::]:8080")),
        ("clash.service", app),
    ]);
    systemd.run(&["systemctl", "start", "clash.service"]);
    let log = systemd.log("clash.service");
    let in_the_way = r#"cannot listen on 127.0.0.1:8080: this process was passed a socket there as descriptor 3, under the name "clash.socket""#;
    assert!(log.contains(in_the_way), "{log}");
    assert!(log.contains(r#"name it "http" with FileDescriptorName= in its .socket unit"#), "{log}");

    systemd.run(&["systemctl", "stop", "clash.socket"]);
    systemd.run(&["systemctl", "start", "app.service"]);
    let log = systemd.log("app.service");
    assert!(
        log.contains(r#"the socket named "app.socket" (127.0.0.1:8000) was passed but no route serves it"#),
        "{log}"
    );
    assert!(log.contains(r#"routes: "http", "admin", "metrics""#), "{log}");
    assert!(log.contains("set FileDescriptorName= in its .socket unit"), "{log}");
}

#[test]
fn what_keeps_a_service_from_its_sockets_is_in_its_status() {
    let systemd = Systemd::boot(&[
        ("app.socket", socket("ListenStream=[::]:8080")),
        ("app.service", service("Type=notify\nExecStart=/usr/local/bin/named")),
    ]);
    assert!(!systemd.exec(&["systemctl", "start", "app.service"]).status.success(), "{}", systemd.log("app.service"));
    let status = systemd.property("app.service", "StatusText");
    assert!(
        status.starts_with("failed: cannot listen on 127.0.0.1:8080: this process was passed a socket there"),
        "{status}"
    );
}

#[test]
fn a_socket_whose_path_went_with_a_runtime_directory_is_warned_of_at_the_next_start() {
    let systemd = Systemd::boot(&[
        ("http.socket", socket("ListenStream=/run/app/http.sock\nFileDescriptorName=http\nService=app.service")),
        ("app.service", service("Type=notify\nRuntimeDirectory=app\nExecStart=/usr/local/bin/handoff")),
    ]);
    let lost = "no client can connect at the path of a socket that was passed";
    systemd.run(&["systemctl", "start", "app.service"]);
    assert!(!systemd.log("app.service").contains(lost), "{}", systemd.log("app.service"));
    assert!(systemd.path("/run/app/http.sock").exists(), "or this test proves nothing");
    systemd.run(&["systemctl", "restart", "app.service"]);
    assert!(!systemd.path("/run/app/http.sock").exists(), "or this test proves nothing");
    assert!(systemd.log("app.service").contains(lost), "{}", systemd.log("app.service"));
}

#[test]
fn a_start_that_clears_o_nonblock_under_a_running_server_does_not_block_it() {
    let systemd = Systemd::boot(&[
        ("http.socket", socket("ListenStream=127.0.0.1:8080\nFileDescriptorName=http\nService=app.service")),
        ("admin.socket", socket("ListenStream=/run/admin.sock\nFileDescriptorName=admin\nService=app.service")),
        // One worker: if it blocks in accept, nothing is served at all. NonBlocking=no is systemd's default.
        ("app.service", service("Environment=TOKIO_WORKER_THREADS=1\nExecStart=/usr/local/bin/named")),
        ("other.service", service("Type=oneshot\nSockets=http.socket admin.socket\nExecStart=/bin/true")),
    ]);
    systemd.curl(&["http://127.0.0.1:8080/"]);
    let app = main_pid(&systemd, "app.service");
    let nonblocking = |name| flags(&systemd, &app, listener(&systemd, &app, name)) & O_NONBLOCK != 0;
    assert!(nonblocking("http") && nonblocking("admin"), "set when claimed");

    systemd.run(&["systemctl", "start", "other.service"]);
    assert!(!nonblocking("http") && !nonblocking("admin"), "systemd has cleared the flag, or this test proves nothing");

    for _ in 0..2 {
        assert_eq!(systemd.curl(&["http://127.0.0.1:8080/"]), "hello, you came through http");
        let status = systemd.curl(&["--unix-socket", "/run/admin.sock", "http://admin/"]);
        assert!(status.contains(&format!("process {app}, ")), "{status}");
    }
    eventually("the flag is set again", || nonblocking("http") && nonblocking("admin"));
}

#[test]
fn the_inode_of_a_pidfd_names_the_process_that_was_started_and_no_later_one() {
    const VARIABLE: &str = "LISTEN_PIDFDID";
    if !has(VARIABLE, 258) {
        return;
    }
    let systemd = Systemd::boot(&named_units());
    // It would refuse one that is not its own.
    assert_eq!(systemd.curl(&["http://127.0.0.1:8080/"]), "hello, you came through http");
    let old = main_pid(&systemd, "named.service");
    let own = variable(&systemd, &old, VARIABLE).expect("systemd has set it");

    systemd.run(&["systemctl", "kill", "--kill-who=main", "--signal=HUP", "named.service"]);
    eventually("it has handed over", || main_pid(&systemd, "named.service") != old);
    let new = main_pid(&systemd, "named.service");
    assert_eq!(variable(&systemd, &new, "LISTEN_PID").as_ref(), Some(&new));
    assert_ne!(variable(&systemd, &new, VARIABLE), Some(own), "it was inherited");
    assert_eq!(systemd.curl(&["http://127.0.0.1:8080/"]), "hello, you came through http");
}

fn named_units() -> Vec<(&'static str, String)> {
    ["named.service", "named-http.socket", "named-admin.socket", "named-metrics.socket"].map(shipped).into()
}

fn socket(lines: &str) -> String {
    format!("[Socket]\n{lines}\n")
}

fn service(lines: &str) -> String {
    format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\n{lines}\n")
}

fn main_pid(systemd: &Systemd, service: &str) -> String {
    systemd.property(service, "MainPID")
}

/// Waits until the clients have got that many more answers.
fn answers(load: &Load, more: u64) {
    let enough = load.answered() + more;
    eventually("the clients get answers", || load.answered() >= enough);
}

/// The process that the `inetd` example says it is.
fn answering_process(answer: &str) -> String {
    answer.rsplit(' ').next().expect("the answer ends with the process").to_owned()
}

/// The descriptor that was passed to `process` under `name`; systemd orders those of several units at random.
fn listener(systemd: &Systemd, process: &str, name: &str) -> usize {
    let names = variable(systemd, process, "LISTEN_FDNAMES").expect("names");
    3 + names.split(':').position(|known| known == name).expect("the socket was passed")
}

/// A variable of the environment in which `process` was started.
fn variable(systemd: &Systemd, process: &str, name: &str) -> Option<String> {
    let environment = fs::read_to_string(systemd.path(&format!("/proc/{process}/environ"))).expect("its environment");
    environment.split('\0').find_map(|entry| Some(entry.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// The flags of an open file description.
fn flags(systemd: &Systemd, process: &str, fd: usize) -> u32 {
    let info = fs::read_to_string(systemd.path(&format!("/proc/{process}/fdinfo/{fd}"))).expect("an open descriptor");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
    u32::from_str_radix(flags.trim(), 8).expect("octal flags")
}
