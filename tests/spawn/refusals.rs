//! When there is nothing to start: an error that says what is wrong, and a process that can try again.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    child::{Child, Scene},
    needs,
    program::{Folder, up},
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
    let mut child = up(Scene::new("start_when_told").command([&program]));

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
    let mut child = up(Scene::new("start_when_told").command([program]).directory(&inside));
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
    let mut child = up(Scene::new("start_when_told").command([unshare, pid, fork, kill, &own]));
    assert_refused(&mut child, &["this process is PID 1", "(rendezvous)"]);
    child.finish();
}
