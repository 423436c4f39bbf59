//! Processes that bind and let go of one path in the same instant.

use std::{
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use axum_activation::ActivatedListeners;
use rustix::time::{ClockId, clock_gettime};
use tempfile::{TempDir, tempdir};

use crate::support::{
    seen::SeenError,
    subprocess::{Child, ChildIo, Subprocess},
};

const ROUNDS: usize = 400;

/// In microseconds: long enough for both to have heard.
const HEAD_START: i64 = 1_000;

/// What binding came to.
type Bound = Result<(), SeenError>;

/// At the time that it is given, binds the path that it is given; without a path, lets go of the one it has.
pub(crate) fn race_for_a_path(io: &ChildIo) {
    let mut held = None;
    loop {
        let seen = io.hear();
        // Without its line end, an order to let go has no blank either.
        let (start, path) = seen.split_once(' ').unwrap_or((&seen, ""));
        if start.is_empty() {
            return drop(held);
        }
        wait_until(start.parse().unwrap());
        if path.is_empty() {
            drop(held.take());
            io.say(Bound::Ok(()));
            continue;
        }
        let set = ActivatedListeners::builder().fallback("http", Path::new(path)).build();
        io.say(set.as_ref().map(|_| ()).map_err(SeenError::from));
        held = set.ok();
    }
}

/// Spins, as a sleeper wakes too late.
fn wait_until(start: i64) {
    while microseconds() < start {
        std::hint::spin_loop();
    }
}

/// The time of the clock that all processes share.
fn microseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// Two processes and a directory of their own.
struct Race {
    dir: TempDir,
    racers: [Child; 2],
}

impl Race {
    fn new() -> Self {
        let racers = [(); 2].map(|()| Subprocess::new("race_for_a_path").start());
        Self { dir: tempdir().unwrap(), racers }
    }

    /// Tells each what to do, at one time; `None` lets go.
    fn run(&mut self, paths: [Option<&Path>; 2]) -> [Bound; 2] {
        let start = microseconds() + HEAD_START;
        for (racer, path) in self.racers.iter_mut().zip(paths) {
            racer.tell(&format!("{start} {}", path.map_or(String::new(), |path| path.display().to_string())));
        }
        self.racers.each_mut().map(Child::hear)
    }

    fn finish(self) {
        self.racers.into_iter().for_each(Child::finish);
    }
}

#[test]
fn of_two_processes_that_race_for_a_stale_path_exactly_one_wins() {
    let mut race = Race::new();
    for round in 0..ROUNDS {
        let path = race.dir.path().join(format!("{round}.sock"));
        drop(UnixListener::bind(&path).unwrap());
        let bound = race.run([Some(&path); 2]);
        let ([Ok(()), Err(loser)] | [Err(loser), Ok(())]) = &bound else {
            panic!("not exactly one has won: {bound:?}");
        };
        assert_eq!(loser.is, ["address_in_use"]);
        assert!(UnixStream::connect(&path).is_ok(), "the winner cannot be reached");
        assert_eq!(race.run([None; 2]), [Ok(()), Ok(())]);
        assert!(!path.exists());
    }
    race.finish();
}

#[test]
fn a_process_that_lets_go_of_a_path_does_not_remove_the_socket_of_the_next() {
    let mut race = Race::new();
    for round in 0..ROUNDS {
        let path = race.dir.path().join(format!("{round}.sock"));
        assert_eq!(race.run([Some(&path), None]), [Ok(()), Ok(())]);
        let [_, next] = race.run([None, Some(&path)]);
        match next {
            Ok(()) => assert!(UnixStream::connect(&path).is_ok(), "round {round}: the next cannot be reached"),
            Err(too_early) => assert_eq!(too_early.is, ["address_in_use"]),
        }
        assert_eq!(race.run([None; 2]), [Ok(()), Ok(())]);
        assert!(!path.exists());
    }
    race.finish();
}
