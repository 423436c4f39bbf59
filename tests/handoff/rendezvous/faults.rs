//! What may stand in the way of a place.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
};

use rustix::{
    fs::{Gid, Uid, chown},
    process::Signal,
};

use super::{
    harness::{Process, folder, get, met, needs_root, subprocess, this_program, wait_for_generation, who, words},
    process::Settings,
    users::start_as_other,
};
use crate::support::needs;

#[test]
fn a_process_that_finds_a_socket_that_no_process_listens_on_any_more_is_the_first() {
    let folder = folder();
    let path = folder.path().join("handoff.sock");
    let mut killed = Process::start(&met(&path));
    who(killed.addr());
    killed.signal(Signal::KILL);
    killed.status();
    let stale = fs::metadata(&path).unwrap().ino();

    let next = Process::start(&met(&path));
    let addr = next.addr();
    assert_eq!(who(addr).generation, 0);
    assert_ne!(fs::metadata(&path).unwrap().ino(), stale);
    let last = Process::start(&met(&path));
    next.ended();
    wait_for_generation(addr, 1).signal(Signal::TERM);
    last.ended();
}

#[test]
fn who_is_killed_before_it_is_ready_leaves_nothing_in_the_way() {
    let folder = folder();
    let plan = folder.path().join("plan");
    let settings = Settings { plan: Some(plan.clone()), ..met(folder.path().join("handoff.sock")) };
    let old = Process::start(&settings);
    let addr = old.addr();
    who(addr);
    fs::write(plan, "hang").unwrap();
    let mut killed = Process::start(&settings);
    killed.hear("plans hang");
    killed.signal(Signal::KILL);
    killed.status();
    let reason = old.hear("failed ");
    assert!(reason.contains("closed the control socket"), "{reason}");
    assert_eq!(who(addr).generation, 0);
    let new = Process::start(&settings);
    old.ended();
    wait_for_generation(addr, 1).signal(Signal::TERM);
    new.ended();
}

#[test]
fn who_fails_before_it_is_ready_says_why_to_the_one_that_serves_on() {
    let folder = folder();
    let plan = folder.path().join("plan");
    let settings = Settings { plan: Some(plan.clone()), ..met(folder.path().join("handoff.sock")) };
    let old = Process::start(&settings);
    let addr = old.addr();
    who(addr);
    fs::write(plan, "fail no database here").unwrap();
    let reason = Process::start(&settings).failed();
    assert!(reason.contains("no database here"), "{reason}");
    let reason = old.hear("failed ");
    assert!(reason.contains("no database here"), "{reason}");
    assert_eq!(who(addr).generation, 0);
    old.signal(Signal::TERM);
    old.ended();
}

#[test]
fn a_full_file_system_is_a_refusal_and_the_old_one_serves_on() {
    needs_root("a mount namespace");
    needs::program("unshare", "util-linux");
    needs::program("nsenter", "util-linux");
    let settings = met("/mnt/handoff.sock");
    let small = "mount -t tmpfs -o nr_inodes=6,mode=0755 none /mnt && exec \"$@\"";
    let unshare = words(["unshare", "--mount", "sh", "-c", small, "sh"], [this_program()]);
    let old = Process::run(subprocess(&settings).command(unshare));
    let addr = old.addr();
    who(addr);
    let pid = old.pid().as_raw_nonzero().to_string();
    let inside = PathBuf::from(format!("/proc/{pid}/root/mnt"));
    let start =
        || Process::run(subprocess(&settings).command(words(["nsenter", "--mount", "-t", &pid], [this_program()])));

    let fill = |number: u32| inside.join(format!("file-{number}"));
    let full = (0..).find(|number| File::create(fill(*number)).is_err()).unwrap();
    assert!((2..6).contains(&full), "it takes a few files: {full}");
    let reason = start().failed();
    assert!(reason.contains("/mnt/handoff.sock") && reason.contains("the file system is full; make room"), "{reason}");
    let reason = old.hear("failed ");
    assert!(reason.contains("the file system is full; make room"), "{reason}");
    assert_eq!(get(addr, "/7"), "7");

    // One for the socket and one for the lock.
    fs::remove_file(fill(0)).unwrap();
    fs::remove_file(fill(1)).unwrap();
    let new = start();
    old.ended();
    wait_for_generation(addr, 1).signal(Signal::TERM);
    new.ended();
}

#[test]
fn a_directory_that_cannot_be_written_is_a_refusal_and_the_old_one_serves_on() {
    let folder = folder();
    let open = |open| {
        let owner = if open { 65534 } else { 0 };
        chown(folder.path(), Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner))).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    };
    open(true);
    let settings = met(folder.path().join("handoff.sock"));
    let old = start_as_other(&settings);
    let addr = old.addr();
    who(addr);

    open(false);
    let reason = start_as_other(&settings).failed();
    assert!(reason.contains("a path takes the right to write its directory"), "{reason}");
    let reason = old.hear("failed ");
    assert!(reason.contains("a path takes the right to write its directory"), "{reason}");
    assert_eq!(get(addr, "/7"), "7");

    open(true);
    let new = start_as_other(&settings);
    old.ended();
    wait_for_generation(addr, 1).signal(Signal::TERM);
    new.ended();
}
