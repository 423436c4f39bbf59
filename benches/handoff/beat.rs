//! Something that happens once a second while a load runs.

use std::{
    io, panic, thread,
    time::{Duration, Instant},
};

use crate::cpu::pin_to;

/// Between two; the first comes after half of it.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// Calls `happen` so many times while `load` runs on a thread of its own, on core `client` if that is given.
pub(crate) fn beat<T: Send>(
    count: u32,
    client: Option<usize>,
    load: impl FnOnce() -> io::Result<T> + Send,
    mut happen: impl FnMut() -> io::Result<()>,
) -> io::Result<T> {
    thread::scope(|scope| {
        let begin = Instant::now();
        let loading = scope.spawn(move || client.map_or(Ok(()), pin_to).and_then(|()| load()));
        // On this thread: the processes that it starts end with it.
        let happened = (0..count).try_for_each(|number| {
            thread::sleep((begin + EVERY * number + EVERY / 2).saturating_duration_since(Instant::now()));
            happen()
        });
        let loaded = loading.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        happened.and(loaded)
    })
}
