//! The program `examples/check.rs`.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use super::faults::Way;
use crate::support::needs;
use crate::write;

#[test]
fn the_program_prints_what_is_wrong_and_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let files = Way::Restart.files();
    write(dir.path(), &files);
    let paths: Vec<_> = files.iter().map(|(name, _)| dir.path().join(name).display().to_string()).collect();
    let run = |more: &[&str]| {
        let args = more.iter().copied().chain(paths.iter().map(String::as_str));
        program(&args.collect::<Vec<_>>(), "")
    };
    let right = run(&["--name", "http", "--drain", "30s"]);
    assert_eq!((right.status.code(), right.stdout.len()), (Some(0), 0), "{right:?}");

    let wrong = run(&["--name", "http", "--drain", "2min"]);
    assert_eq!(wrong.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&wrong.stdout);
    assert!(printed.contains("app-restart.service:") && printed.contains(": TimeoutStopSec=125\n"), "{printed}");

    let every =
        ["--name=http", "--fallback=admin=unix:/run/x/a.sock", "--handoff-socket=/run/x/h.sock", "--fd-store=5000"];
    let printed = String::from_utf8_lossy(&run(&every).stdout).into_owned();
    for directive in ["ExecReload", "RuntimeDirectory", "FileDescriptorStoreMax", "LimitNOFILE"] {
        assert!(printed.contains(directive), "{printed}");
    }
}

#[test]
fn the_program_reads_what_systemctl_shows_and_ends_with_2_when_it_cannot_look() {
    let shown = "Type=notify\nTimeoutStopUSec=5s\nWatchdogUSec=infinity\nId=app.service\n";
    let wrong = program(&["--show"], shown);
    assert_eq!(wrong.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&wrong.stdout);
    assert!(printed.starts_with("app.service: error: TimeoutStopSec=5 is not above"), "{printed}");

    assert_eq!(program(&["--show"], "").status.code(), Some(2));
    let alone = program(&["--show", "--name", "http"], "ListenStream=8080\nId=app.socket\n");
    assert_eq!(alone.status.code(), Some(2), "nothing was looked at: {alone:?}");
    assert_eq!(program(&["/nowhere/app.service"], "").status.code(), Some(2));
    assert_eq!(program(&["--drain", "soon", "app.service"], "").status.code(), Some(2));
}

fn program(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(needs::example("check"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // It may end before it has read what it does not want.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}
