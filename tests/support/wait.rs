//! Waiting for what happens elsewhere. This alone sleeps, between two looks at a condition.
//!
//! No test measures time. One that hangs fails after [`LIMIT`].

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take that a test waits for. Only a failing test waits so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// Returns when `holds` does, and fails with `what` when it does not come true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    find(|| what.to_owned(), || holds().then_some(()));
}

/// Returns what `look` finds, and fails with `state` when it finds nothing.
#[track_caller]
pub(crate) fn find<T>(state: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {}", state());
        thread::sleep(PAUSE);
    }
}

/// As [`find`], for a runtime with one thread.
#[track_caller]
pub(crate) fn find_async<T>(
    state: impl Fn() -> String,
    mut look: impl FnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let deadline = Instant::now() + LIMIT;
    async move {
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "in vain: {}", state());
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Returns at that moment, for a test that looks for a race around it.
pub(crate) fn until(moment: Instant) {
    while let Some(left) = moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        // As sleepers wake late, the rest is spent awake.
        if left > 2 * PAUSE { thread::sleep(PAUSE) } else { thread::yield_now() }
    }
}

/// What a handler of the tests works: a few turns of the runtime, so that requests are in flight at any moment.
pub(crate) async fn some_turns() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}
