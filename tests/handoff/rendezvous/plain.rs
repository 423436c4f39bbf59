//! A successor that knows `sd_listen_fds(3)` and nothing else, in another language.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    harness::{Process, Who, folder, get, subprocess, under_load_of_new_connections, wait_for_generation, who},
    process::{Plain, Settings},
};
use crate::support::{http::Client, needs};

/// What the successor says is its generation.
const PLAIN: u64 = 99;

/// A service under a path at which a test puts what is started next.
struct Service {
    folder: TempDir,
    process: Process,
}

impl Service {
    fn start(plain: Plain) -> Self {
        needs::program("python3", "python3");
        let folder = folder();
        let program = folder.path().join("program");
        symlink(env::current_exe().unwrap(), &program).unwrap();
        // The drain may take longer than a test waits for anything.
        let settings = Settings {
            plain: Some(plain),
            handoff_timeout: Some(2000),
            drain_timeout: Some(600_000),
            ..Settings::default()
        };
        let process = Process::run(subprocess(&settings).command([program]));
        Self { folder, process }
    }

    /// Puts another program where the first one was.
    fn replace(&self, text: &str) {
        let (program, beside) = (self.program(), self.folder.path().join("beside"));
        fs::write(&beside, text).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(beside, program).unwrap();
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("program")
    }
}

/// The service in Python.
fn python() -> String {
    concat!("#!/usr/bin/env python3\n", include_str!("../../support/protocol.py"), include_str!("plain_service.py"))
        .to_owned()
}

#[test]
fn no_request_is_lost_to_a_plain_successor_that_says_ready() {
    hands_over(Plain::Notifies);
}

#[test]
fn no_request_is_lost_to_a_plain_successor_that_lives() {
    hands_over(Plain::Lives(1000));
}

#[track_caller]
fn hands_over(plain: Plain) {
    let mut service = Service::start(plain);
    let addr = service.process.addr();
    let old = who(addr);
    service.replace(&python());
    under_load_of_new_connections(addr, |clients| {
        old.signal(Signal::HUP);
        // The sockets, and not ours to speak through; blocking, as a service manager passes them.
        assert_eq!(service.process.hear("has "), "['http'] blocking True");
        wait_for_generation(addr, PLAIN);
        service.process.hear("ends ");
        clients.wait_for(200);
    });
    let new = who(addr);
    assert_ne!(new.pid, old.pid);
    assert!(service.process.status().success());
    new.signal(Signal::TERM);
}

#[test]
fn a_connection_that_is_open_ends_in_order_at_the_old_one() {
    let service = Service::start(Plain::Notifies);
    let addr = service.process.addr();
    let mut idle = Client::connect(addr).unwrap();
    let old: Who = who(addr);
    assert_eq!(idle.get("/7").unwrap().text(), "7");
    service.replace(&python());
    assert!(get(addr, "/handover").starts_with("over to "));
    // The client's next request may be on its way.
    let last = idle.get("/8").unwrap();
    assert_eq!((last.text(), last.says_close()), ("8", true));
    service.process.hear("ends ");
    let new = wait_for_generation(addr, PLAIN);
    assert_ne!(new.pid, old.pid);
    new.signal(Signal::TERM);
}

#[test]
fn the_old_one_ends_as_soon_as_nothing_is_left_in_it() {
    let service = Service::start(Plain::Notifies);
    let addr = service.process.addr();
    service.replace(&python());
    assert!(get(addr, "/handover").starts_with("over to "));
    service.process.hear("ends ");
    wait_for_generation(addr, PLAIN).signal(Signal::TERM);
}

#[test]
fn a_plain_successor_that_fails_leaves_the_old_one_accepting() {
    let service = Service::start(Plain::Notifies);
    let addr = service.process.addr();
    let old = who(addr);
    let says_so = python().replace("    sockets = listen_fds()\n", "    sockets = listen_fds()\n    sys.exit(3)\n");
    under_load_of_new_connections(addr, |clients| {
        for (text, says) in [
            ("#!/bin/sh\nexit 0\n", "ended before it was ready"),
            (&*says_so, "ended before it was ready"),
            // It takes connections meanwhile, so it serves no client.
            ("#!/bin/sh\nexec sleep 1000\n", "it has not said READY=1 within 2s"),
        ] {
            service.replace(text);
            old.signal(Signal::HUP);
            let reason = service.process.hear("failed ");
            assert!(reason.contains(says), "{reason}");
            assert_eq!(who(addr), old);
            clients.wait_for(20);
        }
        service.replace(&python());
        old.signal(Signal::HUP);
        wait_for_generation(addr, PLAIN);
        service.process.hear("ends ");
    });
    who(addr).signal(Signal::TERM);
}

#[test]
fn a_plain_successor_that_is_not_there_is_named() {
    let service = Service::start(Plain::Lives(100));
    let addr = service.process.addr();
    let old = who(addr);
    let program: &Path = &service.program();
    fs::remove_file(program).unwrap();
    old.signal(Signal::HUP);
    let reason = service.process.hear("failed ");
    assert!(reason.contains("nothing is there"), "{reason}");
    assert_eq!(who(addr), old);
    old.signal(Signal::TERM);
    service.process.hear("ends ");
}
