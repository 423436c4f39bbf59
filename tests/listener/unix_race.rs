//! Two processes that start in the same instant and find the same stale path.

use std::{
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use axum_activation::ActivatedListeners;
use rustix::time::{ClockId, clock_gettime};
use tempfile::tempdir;

use crate::{
    child::{Child, Scene, Stage},
    seen::SeenError,
};

const ROUNDS: usize = 400;

/// In microseconds: long enough for both to have heard.
const HEAD_START: i64 = 1_000;

/// Binds each path that it is told, at the time that it is told; lets go of it when it is told the next word.
pub(crate) fn race_for_a_path(stage: &Stage) {
    loop {
        let told = stage.hear();
        let Some((start, path)) = told.split_once(' ') else {
            return;
        };
        let start = start.parse().unwrap();
        while microseconds() < start {
            std::hint::spin_loop();
        }
        let set = ActivatedListeners::builder().fallback("http", Path::new(&path)).build();
        stage.say(set.as_ref().map(|_| ()).map_err(SeenError::from));
        stage.hear();
        drop(set);
        stage.say("released");
    }
}

/// The time of the clock that all processes share.
fn microseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[test]
fn of_two_processes_that_race_for_a_stale_path_exactly_one_wins() {
    let dir = tempdir().unwrap();
    let mut racers = [Scene::new("race_for_a_path").start(), Scene::new("race_for_a_path").start()];
    for round in 0..ROUNDS {
        let path = dir.path().join(format!("{round}.sock"));
        drop(UnixListener::bind(&path).unwrap());
        race(&mut racers, &path);
    }
    racers.into_iter().for_each(Child::finish);
}

fn race(racers: &mut [Child; 2], path: &Path) {
    let start = microseconds() + HEAD_START;
    for racer in racers.iter_mut() {
        racer.tell(&format!("{start} {}", path.display()));
    }
    let results = racers.each_mut().map(Child::hear::<Result<(), SeenError>>);
    let ([Ok(()), Err(loser)] | [Err(loser), Ok(())]) = &results else {
        panic!("not exactly one has won: {results:?}");
    };
    assert_eq!(loser.is, ["address_in_use"]);
    assert!(UnixStream::connect(path).is_ok(), "the winner cannot be reached");
    for racer in racers.iter_mut() {
        racer.tell("let go");
        assert_eq!(racer.hear::<String>(), "released");
    }
    assert!(!path.exists());
}
