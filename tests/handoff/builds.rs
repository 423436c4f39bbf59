//! Today's build and the last one before connections other than idle HTTP/1 could move: each hands over to the other.
//!
//! `OLD=1 tests/run --test handoff builds::` makes that build. Without it nothing is tested here.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    kept::{Echo, Http2, Kept, Lines},
    old_build,
    service::{Service, Who, assert_moves, program_in, who},
    wait::eventually,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Old,
    New,
}

/// Every build after every other, and after itself.
const BUILDS: [Build; 6] = [Build::Old, Build::New, Build::New, Build::Old, Build::Old, Build::New];

#[test]
fn a_build_gets_from_the_other_what_both_can_move_and_the_rest_ends_as_before() {
    let Some(old) = old_build::program("handoff") else { return };
    let service = Service::start_as("", |folder| {
        let program = program_in(folder);
        put(&program, BUILDS[0], &old);
        Command::new(program)
    });
    for step in BUILDS.windows(2) {
        let [from, to] = [step[0], step[1]];
        println!("{from:?} hands over to {to:?}");
        let mut kept = keep(&service);
        // The old build has no such route.
        let mut lines = (from == Build::New).then(|| Lines::connect(service.addr));
        assert!(lines.as_mut().is_none_or(|lines| lines.ask().0 == 1));
        put(&service.program(), to, &old);
        let next = service.hand_over();
        assert_eq!(fs::read_link(format!("/proc/{}/exe", next.pid)).unwrap(), program_of(to, &old));
        assert_moves(&mut kept.http1, next);
        match (from, to) {
            (Build::New, Build::New) => {
                assert_http2_moves(&mut kept.http2, next);
                assert_eq!(lines.unwrap().ask(), (2, next.pid));
            }
            _ => {
                kept.http2.wait_for_end();
                lines.into_iter().for_each(Lines::assert_closed);
            }
        }
        kept.websocket.take().unwrap().assert_closed_for_restart();
        assert_eq!(who(&mut kept.http1), next, "it still has its connection");
    }
    let report = service.end().0.into_iter().filter(|line| line.text.starts_with("ends ")).count();
    assert_eq!(report, BUILDS.len(), "each has ended in order");
}

/// A client of each kind, served by the process that serves now.
fn keep(service: &Service) -> Kept {
    let now = service.who();
    let (mut http1, mut http2) = (service.connect(), Http2::connect(service.addr));
    assert_eq!(who(&mut http1), now);
    assert_eq!(http2.get("/who").unwrap().parse(), Ok(now));
    Kept { http1, http2, websocket: Some(Echo::connect(service.addr)) }
}

/// Fails unless the connection has moved there, or does.
#[track_caller]
fn assert_http2_moves(http2: &mut Http2, to: Who) {
    eventually(&format!("it is with {to:?}"), || http2.get("/who").unwrap().parse() == Ok(to));
    assert!(!http2.has_ended());
}

/// Switches the link at the path of the program, as a deploy does.
fn put(program: &Path, build: Build, old: &Path) {
    let beside = program.with_extension("new");
    symlink(program_of(build, old), &beside).unwrap();
    fs::rename(beside, program).unwrap();
}

fn program_of(build: Build, old: &Path) -> PathBuf {
    match build {
        Build::Old => old.to_owned(),
        Build::New => env::current_exe().unwrap(),
    }
}
