//! When there is nothing to start: an error that says what is wrong, and a process that can try again.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use super::program::{Folder, up};
use crate::support::{
    needs,
    subprocess::{Child, Subprocess},
};

#[track_caller]
fn assert_refused(child: &mut Child, says: &[&str]) {
    child.tell("start");
    let error = child.hear::<Result<(), String>>().unwrap_err();
    for says in says {
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_cannot_be_started_is_named_with_the_reason_until_it_can() {
    let folder = Folder::new();
    let program = folder.install_self("server");
    let shown = program.to_str().unwrap();
    let mut child = up(Subprocess::new("start_when_asked").command([&program]));

    fs::remove_file(&program).unwrap();
    assert_refused(&mut child, &["cannot start", shown, "nothing is there"]);

    fs::create_dir(&program).unwrap();
    assert_refused(&mut child, &[shown, "it is a directory, not executable"]);
    fs::remove_dir(&program).unwrap();

    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o644)).unwrap();
    assert_refused(&mut child, &[shown, "not executable (chmod +x)"]);

    fs::write(&program, "echo I have no first line\n").unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    assert_refused(&mut child, &[shown, "neither a program for this machine nor a script that begins with #!"]);

    fs::write(&program, "#!/no/such/interpreter\n").unwrap();
    assert_refused(&mut child, &[shown, "the interpreter that it names is missing"]);

    let writer = fs::OpenOptions::new().append(true).open(&program).unwrap();
    assert_refused(&mut child, &[shown, "still being written"]);
    drop(writer);

    folder.install("server", "second");
    child.tell("start");
    let said = [child.hear::<serde_json::Value>(), child.hear()];
    assert!(said.contains(&"second".into()), "{said:?}");
    child.finish();
}

#[test]
fn a_working_directory_that_is_gone_is_named() {
    let folder = Folder::new();
    let inside = folder.path("inside");
    fs::create_dir(&inside).unwrap();
    let program = folder.install_self("server");
    let mut child = up(Subprocess::new("start_when_asked").command([program]).directory(&inside));
    folder.install("server", "second");
    child.tell("start");
    assert!([child.hear::<serde_json::Value>(), child.hear()].contains(&"second".into()));
    fs::remove_dir(&inside).unwrap();
    assert_refused(&mut child, &["it starts in", inside.to_str().unwrap(), "create it again"]);
    fs::create_dir(&inside).unwrap();
    child.tell("start");
    assert!([child.hear::<serde_json::Value>(), child.hear()].contains(&"second".into()));
    child.finish();
}

#[test]
fn the_first_process_of_a_pid_namespace_starts_nothing_and_says_why() {
    needs::program("unshare", "util-linux");
    let own = std::env::current_exe().unwrap();
    let words = ["unshare", "--pid", "--fork", "--kill-child"].map(Path::new);
    let [unshare, pid, fork, kill] = words;
    let mut child = up(Subprocess::new("start_when_asked").command([unshare, pid, fork, kill, &own]));
    assert_refused(&mut child, &["this process is PID 1", "(rendezvous)"]);
    child.finish();
}

/// Starts the service behind a `clone` of ours (`clone_shim.c`), and has it start the next process.
fn behind_shim(errno: Option<i32>) -> (Child, tempfile::TempDir) {
    needs::program("cc", "gcc");
    let folder = tempfile::tempdir().unwrap();
    let (source, shim) = (folder.path().join("clone_shim.c"), folder.path().join("clone_shim.so"));
    fs::write(&source, include_str!("clone_shim.c")).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&shim, &source]).arg("-ldl").status();
    assert!(built.unwrap().success(), "cc builds it");
    let mut subprocess = Subprocess::new("start_when_asked").variable("LD_PRELOAD", &shim);
    if let Some(errno) = errno {
        subprocess = subprocess.variable("CLONE_ERRNO", errno.to_string());
    }
    (up(subprocess), folder)
}

#[test]
fn a_system_that_ignores_clone_pidfd_is_named_and_nothing_is_left_running() {
    let (mut child, _folder) = behind_shim(None);
    let says = ["CLONE_PIDFD", "Linux 5.2 or later is needed", "(`handoff_socket`)"];
    assert_refused(&mut child, &says);
    assert_refused(&mut child, &says);
    let tasks = fs::read_dir(format!("/proc/{}/task", child.pid())).unwrap();
    let children = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    assert_eq!(children.collect::<String>(), "", "each process that was made is ended and reaped");
    child.finish();
}

#[test]
fn a_sandbox_that_refuses_clone_is_named_with_the_errno_and_what_works_there() {
    for (errno, says) in [(libc::EINVAL, "os error 22"), (libc::ENOSYS, "os error 38"), (libc::EPERM, "os error 1")] {
        let (mut child, _folder) = behind_shim(Some(errno));
        assert_refused(&mut child, &["a sandbox", says, "(`handoff_socket`)"]);
        child.finish();
    }
    let (mut child, _folder) = behind_shim(Some(libc::EAGAIN));
    assert_refused(&mut child, &["TasksMax="]);
    child.finish();
}
