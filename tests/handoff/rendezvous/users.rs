//! Who may come to the place, and who may be there: the same user, and those that are named. Root may come.

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt};

use rustix::{
    fs::{Gid, Uid, chown},
    process::Signal,
};

use super::{
    harness::{Process, folder, met, needs_root, subprocess, this_program, wait_for_generation, who, words},
    process::Settings,
};
use crate::support::needs;

/// A user without privileges.
pub(crate) const OTHER: u32 = 65534;

#[test]
fn the_path_is_open_to_its_own_user_alone() {
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let old = Process::start(&met(&path));
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
    let old = Process::start(&met(&path));
    let addr = old.addr();
    who(addr);

    let reason = start_as_other(&met(&path)).failed();
    assert!(reason.contains("it lets only its own user and root in; run this as one of them"), "{reason}");

    // Nor where the path was opened to everybody.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let reason = start_as_other(&met(&path)).failed();
    assert!(reason.contains("a process of user 0 listens there, and this one is of user 65534"), "{reason}");
    assert!(reason.contains("handoff_peers([0])"), "{reason}");
    let forward = Settings { peers: vec![0], ..met(&path) };
    let reason = start_as_other(&forward).failed();
    assert!(reason.contains("the process that serves is of user 0, and does not hand over to user 65534"), "{reason}");

    assert_eq!(who(addr).generation, 0);
    old.signal(Signal::TERM);
    old.ended();
}

#[test]
fn no_process_takes_over_from_a_foreign_user() {
    let folder = folder();
    chown(folder.path(), Some(Uid::from_raw(OTHER)), Some(Gid::from_raw(OTHER))).unwrap();
    let path = folder.path().join("handoff.sock");
    let old = start_as(OTHER, &met(&path));
    let addr = old.addr();
    who(addr);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let reason = start_as(OTHER - 1, &met(&path)).failed();
    assert!(reason.contains("a process of user 65534 listens there, and this one is of user 65533"), "{reason}");
    assert_eq!(who(addr).generation, 0);
    old.signal(Signal::TERM);
    old.ended();
}

#[test]
fn the_same_user_takes_over_and_so_does_root_that_names_it() {
    let folder = folder();
    chown(folder.path(), Some(Uid::from_raw(OTHER)), Some(Gid::from_raw(OTHER))).unwrap();
    let settings = met(folder.path().join("handoff.sock"));
    let old = start_as_other(&settings);
    let addr = old.addr();
    who(addr);
    let new = start_as_other(&settings);
    old.ended();
    wait_for_generation(addr, 1);
    let reason = Process::start(&settings).failed();
    assert!(reason.contains("a process of user 65534 listens there, and this one is of user 0"), "{reason}");
    assert_eq!(who(addr).generation, 1);
    let reason = Process::start(&Settings { passed: true, ..settings.clone() }).failed();
    assert!(reason.contains("handoff_peers([65534])"), "{reason}");
    let root = Process::start(&Settings { peers: vec![OTHER], ..settings });
    new.ended();
    wait_for_generation(addr, 2);
    root.signal(Signal::TERM);
    root.ended();
}

#[test]
fn root_hands_over_to_a_user_that_both_name_and_back() {
    let folder = folder();
    chown(folder.path(), Some(Uid::from_raw(OTHER)), Some(Gid::from_raw(OTHER))).unwrap();
    let met = met(folder.path().join("handoff.sock"));
    let as_root = Settings { peers: vec![OTHER], ..met.clone() };
    let old = Process::start(&as_root);
    let addr = old.addr();
    who(addr);
    let new = start_as_other(&Settings { peers: vec![0], ..met });
    old.ended();
    wait_for_generation(addr, 1);
    let last = Process::start(&as_root);
    new.ended();
    wait_for_generation(addr, 2);
    last.signal(Signal::TERM);
    last.ended();
}

/// In a user namespace the kernel shows every user that it does not map as the overflow user, and so as the user of a process that is that one.
#[test]
fn a_user_that_may_be_any_of_many_is_no_peer() {
    needs_root("a user namespace");
    needs::program("unshare", "util-linux");
    let folder = folder();
    chown(folder.path(), Some(Uid::from_raw(OTHER - 1)), Some(Gid::from_raw(OTHER - 1))).unwrap();
    let path = folder.path().join("handoff.sock");
    let old = start_as(OTHER - 1, &met(&path));
    let addr = old.addr();
    who(addr);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    // A copy, as root of another user namespace may not enter a home directory.
    let program = folder.path().join("program");
    fs::copy(this_program(), &program).unwrap();
    for (user, peers) in [(OTHER, vec![]), (1000, vec![OTHER])] {
        let unshare = ["unshare", "--user", &format!("--map-user={user}"), &format!("--map-group={user}")];
        let settings = Settings { peers, ..met(&path) };
        let reason = Process::run(subprocess(&settings).command(words(unshare, [program.clone().into()]))).failed();
        assert!(reason.contains("stands for every user that this user namespace does not map"), "{reason}");
    }
    assert_eq!(who(addr).generation, 0);
    old.signal(Signal::TERM);
    old.ended();
}

/// The path is in a sticky directory, as `/tmp` is, and another user is there first.
#[test]
fn root_takes_over_nothing_from_another_user_who_is_first_at_the_path() {
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let path = folder.path().join("handoff.sock");
    let attacker = start_as_other(&met(&path));
    let addr = attacker.addr();
    who(addr);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();

    let reason = Process::start(&met(&path)).failed();
    let says = [path.to_str().unwrap(), "a process of user 65534 listens there", "handoff_peers([65534])"];
    assert!(says.iter().all(|words| reason.contains(words)), "{reason}");
    // Nor where it is named: in that directory anybody could have been first.
    let reason = Process::start(&Settings { peers: vec![OTHER], ..met(&path) }).failed();
    assert!(reason.contains("can be written by other users (mode 1777)"), "{reason}");
    assert_eq!(who(addr).generation, 0, "the attacker has not been asked for anything");
    attacker.signal(Signal::TERM);
    attacker.ended();

    // Nor is it the first one itself there.
    let reason = Process::start(&met(&path)).failed();
    assert!(reason.contains("this process runs as root"), "{reason}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

pub(crate) fn start_as_other(settings: &Settings) -> Process {
    start_as(OTHER, settings)
}

fn start_as(id: u32, settings: &Settings) -> Process {
    needs_root("another user");
    needs::program("setpriv", "util-linux");
    let (user, group) = (format!("--reuid={id}"), format!("--regid={id}"));
    let command = words(["setpriv", &user, &group, "--clear-groups"], [this_program()] as [OsString; 1]);
    Process::run(subprocess(settings).command(command))
}
