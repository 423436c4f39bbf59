//! Releases behind a symbolic link that a deploy switches: in which one the next process runs.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::service::{Service, Who};

/// What the first process says when the link and the working directory may part.
const MAY_PART: &str = "the program was started through a symbolic link";

/// What it says when they have.
const HAVE_PARTED: &str = "which is no longer where";

#[test]
fn pwd_keeps_the_link_of_the_working_directory_over_two_releases() {
    let service = start("", |command, current| {
        command.env("PWD", current);
    });
    follows_each_release(&service);
    assert_warned(&service, &[]);
    service.end();
}

#[test]
fn the_directory_of_the_next_process_can_be_named() {
    let service = start("successor_directory=current", |command, _| {
        command.env_remove("PWD");
    });
    follows_each_release(&service);
    assert_warned(&service, &[]);
    service.end();
}

#[test]
fn where_nothing_keeps_the_link_the_first_process_warns_and_the_failure_says_what_to_write() {
    let service = start("", |command, _| {
        command.env_remove("PWD");
    });
    assert_warned(&service, &[MAY_PART]);
    let release = directory(service.who());
    deploy(service.folder(), "v2");
    assert_eq!(directory(service.hand_over()), release);
    assert_warned(&service, &[MAY_PART, HAVE_PARTED]);

    let old = service.who();
    fs::remove_dir_all(&release).unwrap();
    let refused = service.ask_to_hand_over().unwrap_err();
    assert!(refused.contains("Environment=PWD=/srv/app/current in the unit, or with successor_directory"), "{refused}");
    assert_eq!(service.who(), old);
    service.end();
}

#[test]
fn a_directory_that_is_missing_at_the_hand_over_is_named() {
    let service = start("successor_directory=nowhere", |command, _| {
        command.env_remove("PWD");
    });
    let refused = service.ask_to_hand_over().unwrap_err();
    let says = format!("it starts in {}, as successor_directory says", service.folder().join("nowhere").display());
    assert!(refused.contains(&says), "{refused}");
    service.end();
}

/// Starts a service in `current`, which leads to `releases/v1`.
fn start(settings: &str, set_up: impl FnOnce(&mut Command, &Path)) -> Service {
    Service::start_as(settings, |folder| {
        deploy(folder, "v1");
        let current = folder.join("current");
        let mut command = Command::new(current.join("program"));
        command.current_dir(&current);
        set_up(&mut command, &current);
        command
    })
}

/// Puts a release in place and switches the link to it, at once as deploy scripts do.
fn deploy(folder: &Path, version: &str) {
    let release = folder.join("releases").join(version);
    fs::create_dir_all(&release).unwrap();
    symlink(env::current_exe().unwrap(), release.join("program")).unwrap();
    symlink(&release, folder.join("current.new")).unwrap();
    fs::rename(folder.join("current.new"), folder.join("current")).unwrap();
}

/// Deploys two releases, each time removes the one before, and hands over.
#[track_caller]
fn follows_each_release(service: &Service) {
    let releases = service.folder().canonicalize().unwrap().join("releases");
    assert_eq!(directory(service.who()), releases.join("v1"));
    for (old, new) in [("v1", "v2"), ("v2", "v3")] {
        deploy(service.folder(), new);
        fs::remove_dir_all(releases.join(old)).unwrap();
        assert_eq!(directory(service.hand_over()), releases.join(new));
    }
}

fn directory(who: Who) -> PathBuf {
    fs::read_link(format!("/proc/{}/cwd", who.pid)).unwrap()
}

#[track_caller]
fn assert_warned(service: &Service, expected: &[&str]) {
    let log = fs::read_to_string(service.folder().join("log")).unwrap();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("successor_directory")).collect();
    assert_eq!(warnings.len(), expected.len(), "{log}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.contains("WARN") && warning.contains(expected), "{warning}");
    }
}
