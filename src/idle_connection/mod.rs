//! An idle connection in transfer: to another process, to systemd's fd store, or back to the route that had it.
//!
//! This is what all of them need to go on with the connection, and what this process holds for it meanwhile.

use std::{fmt, os::fd::OwnedFd, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

mod http2;
mod protocol;
mod reservation;
mod resumable;

pub(crate) use self::{
    http2::Http2Record,
    protocol::{Accepts, CarriedKind, LONGEST_PROTOCOL_RECORD, Protocol},
    reservation::Reservation,
    resumable::ResumableRecord,
};
use crate::{addr::PeerAddr, drain::UnmovedReason};

/// The most bytes that may have been read ahead of a connection in transfer.
pub(crate) const LONGEST_READ_AHEAD: usize = 16 * 1024 * 1024;

/// A connection that can move: no request is being answered on it, and no byte of it is lost.
pub(crate) struct IdleConnection {
    /// The name of the listener that accepted it.
    pub(crate) listener: Arc<str>,
    pub(crate) stream: OwnedFd,
    pub(crate) peer: PeerAddr,
    /// Bytes that were read and not parsed: the next process parses them first.
    pub(crate) read_ahead: Bytes,
    pub(crate) protocol: Protocol,
    pub(crate) times: Times,
    /// What this process holds for it: dropped when another process has the connection, and used on when it comes back. `None` for a
    /// connection that came from another process.
    pub(crate) reservation: Option<Reservation>,
}

impl IdleConnection {
    /// The connection, which does not move for that reason: it is served here until it ends.
    pub(crate) fn unmoved(mut self, reason: UnmovedReason) -> Self {
        self.reservation.iter_mut().for_each(|reservation| reservation.set_unmoved(reason));
        self
    }
}

/// When the time limits of a connection started to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// It was accepted: `max_connection_age`.
    pub(crate) opened: Instant,
    /// Its last request was answered, or it was accepted: `idle_timeout`.
    pub(crate) quiet_since: Instant,
    /// The first byte of the request headers came that are not complete: `header_timeout`.
    pub(crate) headers_since: Option<Instant>,
}

/// [`Times`] as they are sent to another process: how long ago, in microseconds.
///
/// An `Instant` means nothing in another process: in another time namespace the clock starts elsewhere. The time of the transfer itself
/// is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Elapsed {
    pub(crate) age: u64,
    pub(crate) quiet: u64,
    pub(crate) headers: Option<u64>,
}

impl Times {
    /// Of a connection that opens now.
    pub(crate) fn now() -> Self {
        let now = Instant::now();
        Self { opened: now, quiet_since: now, headers_since: None }
    }

    pub(crate) fn elapsed(&self, now: Instant) -> Elapsed {
        let ago = |since| u64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX);
        Elapsed { age: ago(self.opened), quiet: ago(self.quiet_since), headers: self.headers_since.map(ago) }
    }
}

impl Elapsed {
    /// The moments these were; `now` for one that is before the beginning of this process's clock.
    pub(crate) fn times(&self, now: Instant) -> Times {
        let since = |ago| now.checked_sub(Duration::from_micros(ago)).unwrap_or(now);
        Times { opened: since(self.age), quiet_since: since(self.quiet), headers_since: self.headers.map(since) }
    }
}

impl fmt::Debug for IdleConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleConnection")
            .field("listener", &self.listener)
            .field("stream", &self.stream)
            .field("peer", &self.peer)
            .field("read_ahead", &self.read_ahead.len())
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_elapsed_is_the_same_in_the_next_process() {
        let first = Times::now();
        assert_eq!(first.elapsed(Instant::now()), Elapsed::default());
        tokio::time::advance(Duration::from_millis(1500)).await;
        let times = Times { headers_since: Some(Instant::now()), ..first };
        tokio::time::advance(Duration::from_micros(700)).await;
        let elapsed = times.elapsed(Instant::now());
        assert_eq!(elapsed, Elapsed { age: 1_500_700, quiet: 1_500_700, headers: Some(700) });
        assert_eq!(elapsed.times(Instant::now()), times);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(elapsed.times(Instant::now()).elapsed(Instant::now()), elapsed);
    }

    #[test]
    fn no_number_is_too_great() {
        let now = Instant::now();
        let far = Elapsed { age: u64::MAX, quiet: u64::MAX, headers: Some(u64::MAX) };
        let times = far.times(now);
        assert!(times.opened <= now && times.headers_since.unwrap() <= now);
        let later = Times { opened: now + Duration::from_secs(1), ..Times::now() };
        assert_eq!(later.elapsed(now).age, 0);
    }
}
