//! How long and how many: the limits that a server on the open internet needs.
//!
//! Idle time and age are checked by one task a server (`reaper.rs`), and not by a timer for each connection: while a
//! tokio timer is armed, the runtime computes deadlines and reads the clock each time it goes to sleep. So these two
//! limits are met late by up to an eighth of the idle time.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

/// The limits of every connection of a server.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) header_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_connections: Option<usize>,
    pub(super) max_age: Option<MaxAge>,
    pub(super) lame_duck: Duration,
    pub(super) keep_alive_grace: Duration,
    /// How long a drain takes at most.
    pub(super) drain: Duration,
    pub(super) http2: Http2Options,
}

/// The greatest window (RFC 9113, section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Longer than any connection lives.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The age at which a connection ends, give or take.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaxAge {
    pub(super) age: Duration,
    pub(super) jitter: Duration,
}

/// Settings of HTTP/2 connections (RFC 9113, section 6.5.2).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), axum_activation::Error> {
/// # let activated = axum_activation::ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
/// # let (app, stop) = (axum::Router::<()>::new(), async {});
/// use axum_activation::{Server, server::Http2Options};
///
/// Server::new(activated)
///     .serve("http", app)
///     .http2(Http2Options::new().max_concurrent_streams(64).max_header_list_size(64 << 10))
///     .with_graceful_shutdown(stop)
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Http2Options {
    pub(super) max_concurrent_streams: u32,
    pub(super) keep_alive: Option<(Duration, Duration)>,
    pub(super) initial_stream_window: u32,
    pub(super) initial_connection_window: u32,
    pub(super) adaptive_window: bool,
    pub(super) max_header_list_size: u32,
}

/// hyper's default for both windows.
pub(super) const DEFAULT_WINDOW: u32 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Some(Duration::from_secs(30)),
            idle_timeout: Some(Duration::from_secs(120)),
            max_connections: None,
            max_age: None,
            lame_duck: Duration::ZERO,
            keep_alive_grace: Duration::from_secs(1),
            drain: Duration::from_secs(30),
            http2: Http2Options::new(),
        }
    }
}

impl Limits {
    /// A place for each connection that may be open at a time; `None` without a limit.
    pub(super) fn places(&self) -> Option<Arc<Semaphore>> {
        self.max_connections.map(|max| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))))
    }

    /// How long after the start of the drain an HTTP/2 connection gets GOAWAY that could not move: the rest of the drain is for its
    /// streams. Until the next process runs that finds connections in the fd store, the client has nowhere to go, and the
    /// service does not stop before its streams have ended. So it gets GOAWAY earlier there.
    pub(super) fn unmoved_limit(&self, stores: bool) -> Duration {
        (self.drain / if stores { 10 } else { 2 }).min(FOREVER)
    }
}

impl MaxAge {
    /// The age of one connection: spread evenly over `jitter`, so that connections that began together do not end together.
    pub(super) fn draw(self) -> Duration {
        self.age.saturating_add(self.jitter.mul_f64(spread()))
    }
}

impl Http2Options {
    /// The defaults: 200 streams at once, 16 KiB of headers, no pings, the windows of hyper.
    ///
    /// ```
    /// use axum_activation::server::Http2Options;
    ///
    /// let options = Http2Options::new();
    /// # let _ = options;
    /// ```
    pub fn new() -> Self {
        Self {
            max_concurrent_streams: 200,
            keep_alive: None,
            initial_stream_window: DEFAULT_WINDOW,
            initial_connection_window: DEFAULT_WINDOW,
            adaptive_window: false,
            max_header_list_size: 16 << 10,
        }
    }

    /// How many requests a client may have open on one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`); 200 by default.
    ///
    /// ```
    /// use axum_activation::server::Http2Options;
    ///
    /// let options = Http2Options::new().max_concurrent_streams(1000);
    /// # let _ = options;
    /// ```
    pub fn max_concurrent_streams(mut self, streams: u32) -> Self {
        self.max_concurrent_streams = streams;
        self
    }

    /// Pings a silent client every `interval`, and ends the connection when it does not answer within `timeout`. Off by
    /// default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::server::Http2Options;
    ///
    /// let options = Http2Options::new().keep_alive(Duration::from_secs(30), Duration::from_secs(10));
    /// # let _ = options;
    /// ```
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        // hyper adds them to a moment, which panics where the sum is none.
        self.keep_alive = Some((interval.min(FOREVER), timeout.min(FOREVER)));
        self
    }

    /// How many bytes of a request's body a client may send ahead, per stream (`SETTINGS_INITIAL_WINDOW_SIZE`); 1 MiB by
    /// default. More than 2,147,483,647 is as much as that.
    ///
    /// ```
    /// use axum_activation::server::Http2Options;
    ///
    /// let options = Http2Options::new().initial_stream_window(4 << 20);
    /// # let _ = options;
    /// ```
    pub fn initial_stream_window(mut self, bytes: u32) -> Self {
        self.initial_stream_window = bytes.min(MAX_WINDOW);
        self
    }

    /// How many bytes of all requests' bodies together a client may send ahead on one connection; 1 MiB by default.
    ///
    /// HTTP/2 has no way to go below 65,535 at the beginning of a connection (RFC 9113, section 6.9.2): with less, the
    /// client gets no more until what it has sent is below this. More than 2,147,483,647 is as much as that.
    ///
    /// ```
    /// use axum_activation::server::Http2Options;
    ///
    /// let options = Http2Options::new().initial_connection_window(16 << 20);
    /// # let _ = options;
    /// ```
    pub fn initial_connection_window(mut self, bytes: u32) -> Self {
        self.initial_connection_window = bytes.min(MAX_WINDOW);
        self
    }

    /// Lets both windows grow with what a client sends in a round trip, from 65,535 bytes to 16 MiB. The two settings above
    /// have no effect then. Off by default.
    ///
    /// hyper pings the client while it sends a body, to measure the round trip. A connection that moves to the next process
    /// goes on with the windows that it has reached there, and with 1 MiB at least.
    ///
    /// ```
    /// use axum_activation::server::Http2Options;
    ///
    /// let options = Http2Options::new().adaptive_window();
    /// # let _ = options;
    /// ```
    pub fn adaptive_window(mut self) -> Self {
        self.adaptive_window = true;
        self
    }

    /// How many bytes the headers of one request may have (`SETTINGS_MAX_HEADER_LIST_SIZE`); 16 KiB by default.
    ///
    /// ```
    /// use axum_activation::server::Http2Options;
    ///
    /// let options = Http2Options::new().max_header_list_size(64 << 10);
    /// # let _ = options;
    /// ```
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.max_header_list_size = bytes;
        self
    }
}

impl Default for Http2Options {
    fn default() -> Self {
        Self::new()
    }
}

/// A number from 0 to 1, different at each call. It spreads, and nothing is kept secret by it.
fn spread() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0_u8) >> 40;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(1_u32 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_spread_over_the_jitter() {
        let max = MaxAge { age: Duration::from_secs(100), jitter: Duration::from_secs(10) };
        let ages: Vec<_> = (0..100).map(|_| max.draw()).collect();
        assert!(ages.iter().all(|age| (100..=110).contains(&age.as_secs())));
        assert!(ages.iter().any(|age| age.as_millis() < 104_000) && ages.iter().any(|age| age.as_millis() > 106_000));
    }

    #[test]
    fn the_longest_age_is_never_reached() {
        let max = MaxAge { age: Duration::MAX, jitter: Duration::from_secs(60) };
        assert_eq!(max.draw(), Duration::MAX);
    }

    #[test]
    fn a_drain_without_a_limit_has_a_moment_at_which_what_cannot_move_is_sent_away() {
        let limits = Limits { drain: Duration::MAX, ..Limits::default() };
        for stores in [false, true] {
            assert!(std::time::Instant::now().checked_add(limits.unmoved_limit(stores)).is_some());
        }
    }

    #[test]
    fn a_moment_has_room_for_any_keep_alive() {
        let Some((interval, timeout)) = Http2Options::new().keep_alive(Duration::MAX, Duration::MAX).keep_alive else {
            panic!("it is off");
        };
        let now = std::time::Instant::now();
        assert!(now.checked_add(interval).and_then(|then| then.checked_add(timeout)).is_some());
    }
}
