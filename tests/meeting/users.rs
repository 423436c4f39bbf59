//! Who may come to the place: the same user, and root.

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt};

use rustix::{
    fs::{Gid, Uid, chown},
    process::Signal,
};

use super::{
    process::Settings,
    rig::{Process, folder, met, needs_root, scene, this_program, wait_for_generation, who, words},
    support::needs,
};

/// The user `nobody`.
const NOBODY: u32 = 65534;

#[test]
fn the_path_is_open_to_its_own_user_alone() {
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let mut old = Process::start(&met(&path));
    let addr = old.addr();
    who(addr);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Each generation binds it anew.
    let new = Process::start(&met(&path));
    old.ended();
    wait_for_generation(addr, 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    new.signal(Signal::TERM);
    new.ended();
    assert!(!path.exists(), "the last one removes it");
}

#[test]
fn a_foreign_user_is_not_let_in() {
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let mut old = Process::start(&met(&path));
    let addr = old.addr();
    who(addr);

    let reason = start_as_nobody(&met(&path)).failed();
    assert!(reason.contains("it lets only its own user and root in; run this as one of them"), "{reason}");

    // Nor where the path was opened to everybody.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let reason = start_as_nobody(&met(&path)).failed();
    assert!(reason.contains("the process that serves is of user 0, and takes nobody of user 65534"), "{reason}");

    assert_eq!(who(addr).generation, 0);
    old.signal(Signal::TERM);
    old.ended();
}

#[test]
fn nobody_takes_over_from_a_foreign_user() {
    let folder = folder();
    chown(folder.path(), Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
    let path = folder.path().join("handoff.sock");
    let mut old = start_as(NOBODY, &met(&path));
    let addr = old.addr();
    who(addr);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let reason = start_as(NOBODY - 1, &met(&path)).failed();
    assert!(reason.contains("a process of user 65534 listens there, and this one is of user 65533"), "{reason}");
    assert_eq!(who(addr).generation, 0);
    old.signal(Signal::TERM);
    old.ended();
}

#[test]
fn the_same_user_takes_over_and_so_does_root() {
    let folder = folder();
    chown(folder.path(), Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
    let settings = met(folder.path().join("handoff.sock"));
    let mut old = start_as_nobody(&settings);
    let addr = old.addr();
    who(addr);
    let new = start_as_nobody(&settings);
    old.ended();
    wait_for_generation(addr, 1);
    let root = Process::start(&settings);
    new.ended();
    wait_for_generation(addr, 2);
    root.signal(Signal::TERM);
    root.ended();
}

pub(crate) fn start_as_nobody(settings: &Settings) -> Process {
    start_as(NOBODY, settings)
}

fn start_as(id: u32, settings: &Settings) -> Process {
    needs_root("another user");
    needs::program("setpriv", "util-linux");
    let (user, group) = (format!("--reuid={id}"), format!("--regid={id}"));
    let command = words(["setpriv", &user, &group, "--clear-groups"], [this_program()] as [OsString; 1]);
    Process::play(scene(settings).command(command))
}
