//! Idle exit: stop after no connection was open for this long.
//!
//! The race is a client that connects just then. Accepting is paused first, and then the statistics are read once more:
//! if a connection has come in between, it is served and the time starts anew. After the pause a client waits in the
//! accept queue, which systemd has too: it starts the next process for it.

use std::{
    future::pending,
    io,
    time::{Duration, Instant},
};

use super::super::routes::Routes;
use crate::{drain::Stats, listener::ActivatedListener, log, sys::timer::Ticker};

/// The time is made of so many ticks.
const TICKS: u32 = 16;

/// How long accepting may stand still for it; only a make-service that is slow to answer takes that long.
const PAUSE_LIMIT: Duration = Duration::from_millis(100);

/// Waits until no connection was open for some time.
#[derive(Clone, Debug)]
pub(in crate::server) struct IdleExit {
    time: Option<Duration>,
}

impl IdleExit {
    /// Never, where one of the sockets would be closed with this process.
    pub(in crate::server) fn new<'a>(
        time: Option<Duration>,
        listeners: impl IntoIterator<Item = &'a ActivatedListener>,
    ) -> Self {
        let own = listeners.into_iter().find(|listener| !listener.is_shared());
        let time = match (time, own) {
            (Some(_), Some(own)) => {
                log::info!(
                    name = own.name(),
                    "no exit on idle: no other process has this socket and could start this one again"
                );
                None
            }
            (time, _) => time,
        };
        Self { time }
    }

    /// Resolves when no connection was open for long enough, and nothing is accepted any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping it accepts again.
    pub(in crate::server) async fn has_left(&self, serving: &Routes, stats: &Stats) {
        let Some(time) = self.time else { return pending().await };
        loop {
            let last = match idle_for(time, stats).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::error!(%error, "no exit on idle: there is no timer");
                    return pending().await;
                }
            };
            // A client may connect between the look and the pause. It is served like any other.
            let paused = serving.pause(PAUSE_LIMIT).await;
            match paused {
                Ok(paused) if totals(stats) == (last, 0) => return paused.end_loops(),
                _ => {}
            }
        }
    }
}

/// Resolves when no connection was open for `time`: how many were accepted until then.
async fn idle_for(time: Duration, stats: &Stats) -> io::Result<u64> {
    let ticker = Ticker::every(time / TICKS)?;
    let mut quiet = Quiet::default();
    loop {
        ticker.tick().await?;
        let (accepted, open) = totals(stats);
        if quiet.look(Instant::now(), accepted, open) >= time {
            return Ok(accepted);
        }
    }
}

/// How many connections were accepted, and how many are open.
fn totals(stats: &Stats) -> (u64, u64) {
    let stats = stats.read();
    stats.iter().fold((0, 0), |(accepted, open), listener| (accepted + listener.accepted, open + listener.open))
}

/// Since when no connection was open, as far as the ticks show.
#[derive(Debug, Default)]
struct Quiet {
    since: Option<Instant>,
    accepted: u64,
}

impl Quiet {
    /// For how long at least, when so many connections were accepted so far and so many are open.
    fn look(&mut self, now: Instant, accepted: u64, open: u64) -> Duration {
        if open > 0 {
            self.since = None;
        } else if accepted != self.accepted || self.since.is_none() {
            self.since = Some(now);
        }
        self.accepted = accepted;
        self.since.map_or(Duration::ZERO, |since| now - since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_as_long_as_none_is_open_and_none_has_come_and_gone() {
        let (began, mut quiet) = (Instant::now(), Quiet::default());
        let mut look = |ms, accepted, open| quiet.look(began + Duration::from_millis(ms), accepted, open).as_millis();
        assert_eq!(look(10, 0, 0), 0);
        assert_eq!(look(15, 0, 0), 5);
        assert_eq!(look(20, 1, 1), 0);
        assert_eq!(look(30, 1, 1), 0);
        assert_eq!(look(40, 1, 0), 0, "it may have gone just now");
        assert_eq!(look(45, 1, 0), 5);
        assert_eq!(look(50, 2, 0), 0, "it came and went between two looks");
        assert_eq!(look(90, 2, 0), 40);
    }
}
