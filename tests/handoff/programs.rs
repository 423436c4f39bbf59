//! What stands at the path of the program when the next process is started.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use super::roll_back::rolls_back;
use crate::support::service::Service;

#[test]
fn a_script_that_exits_with_0_is_no_successor() {
    replaced("ended before it was ready", |program| put(program, "#!/bin/sh\nexit 0\n", 0o755));
}

#[test]
fn a_script_that_lives_on_is_no_successor_and_is_killed() {
    let service = Service::start("handoff_timeout=300");
    let put = |service: &Service| put(&service.program(), "#!/bin/sh\nexec sleep 1000\n", 0o755);
    rolls_back(service, "it was not ready within 300ms", put, restore);
}

#[test]
fn a_program_that_is_gone_is_named() {
    replaced("nothing is there", |program| fs::remove_file(program).unwrap());
}

#[test]
fn a_program_that_is_not_executable_is_named() {
    replaced("not executable (chmod +x)", |program| put(program, "#!/bin/sh\n", 0o644));
}

#[test]
fn a_program_of_another_machine_is_named() {
    replaced("neither a program for this machine nor a script", |program| put(program, "MZ", 0o755));
}

#[test]
fn a_working_directory_that_is_gone_is_named() {
    let service = Service::start_as("", |folder| {
        let directory = folder.join("work");
        fs::create_dir(&directory).unwrap();
        symlink(env::current_exe().unwrap(), folder.join("program")).unwrap();
        let mut command = Command::new(folder.join("program"));
        command.current_dir(directory);
        command
    });
    let directory = service.folder().join("work");
    let says = format!("it starts in {}, the working directory of the first start", directory.display());
    rolls_back(service, &says, |_| fs::remove_dir(&directory).unwrap(), |_| fs::create_dir(&directory).unwrap());
}

#[test]
fn a_link_that_was_switched_is_followed() {
    let service = Service::start("");
    let before = service.who();
    fs::copy(env::current_exe().unwrap(), service.folder().join("next version")).unwrap();
    let program = service.program();
    let beside = service.folder().join("beside");
    symlink("next version", &beside).unwrap();
    fs::rename(beside, program).unwrap();
    let after = service.hand_over();
    assert_ne!(executable(before.pid), executable(after.pid));
    assert_eq!(executable(after.pid), service.folder().join("next version"));
    service.end();
}

fn executable(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_else(|_| env::current_exe().unwrap())
}

#[track_caller]
fn replaced(says: &str, replace: impl FnOnce(&Path)) {
    rolls_back(Service::start(""), says, |service| replace(&service.program()), restore);
}

fn put(program: &Path, text: &str, mode: u32) {
    let beside = program.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(beside, program).unwrap();
}

fn restore(service: &Service) {
    let _ = fs::remove_file(service.program());
    symlink(env::current_exe().unwrap(), service.program()).unwrap();
}
