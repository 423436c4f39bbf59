//! What to do when `accept` fails.
//!
//! The errors of `accept(2)` are of three kinds. Some concern the one connection that was to be accepted: the next one
//! is tried at once. Some say that the process or the system is out of something: to try again at once would be a busy
//! loop, so accepting pauses. All others pause too, as nothing is known about them.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// The first pause. A burst of clients that goes away within milliseconds costs no more.
const SHORTEST: Duration = Duration::from_millis(5);
/// The longest pause, and the least time between two events that are logged.
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses between two tries to accept while the process or the system is out of something, doubling up to a second.
///
/// Connections wait in the kernel's queue meanwhile. The state lives here and not in a future, so that a dropped
/// `accept` does not forget it.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause: Option<Pin<Box<Sleep>>>,
    last: Duration,
    logged: Option<Instant>,
}

impl Backoff {
    /// Starts a pause, twice as long as the one before, and returns its length.
    pub(super) fn start(&mut self) -> Duration {
        self.last = (self.last * 2).clamp(SHORTEST, LONGEST);
        match &mut self.pause {
            Some(pause) => pause.as_mut().reset(Instant::now() + self.last),
            None => self.pause = Some(Box::pin(sleep(self.last))),
        }
        self.last
    }

    /// Whether to log it: once a second at most, however often accepting fails and succeeds in turn.
    pub(super) fn may_log(&mut self) -> bool {
        let now = Instant::now();
        let may = self.logged.is_none_or(|last| now - last >= LONGEST);
        if may {
            self.logged = Some(now);
        }
        may
    }

    /// Ready when no pause is on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }

    /// An accept succeeded: the next pause is a short one again.
    #[inline]
    pub(super) fn reset(&mut self) {
        self.last = Duration::ZERO;
    }
}

/// Whether an error of `accept` concerns the one connection that was to be accepted, so that the next can be tried at once.
///
/// `accept(2)` passes pending network errors of the new connection on, and asks to treat them like `EAGAIN`.
pub(super) fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::ECONNREFUSED
                | libc::EINTR
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ETIMEDOUT
                | libc::EPERM
        )
    )
}

/// Whether an error of `accept` says that the process or the system is out of something, which passes.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_second_and_start_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|_| backoff.start().as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);

        let before = Instant::now();
        assert!(backoff.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        poll_fn(|cx| backoff.poll(cx)).await;
        assert_eq!(before.elapsed().as_millis(), 1000);

        backoff.reset();
        assert_eq!(backoff.start(), SHORTEST);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_logged_once_a_second_at_most() {
        let mut backoff = Backoff::default();
        assert!(backoff.may_log() && !backoff.may_log());
        backoff.reset();
        tokio::time::advance(LONGEST - SHORTEST).await;
        assert!(!backoff.may_log());
        tokio::time::advance(SHORTEST).await;
        assert!(backoff.may_log());
    }

    #[test]
    fn running_out_of_descriptors_concerns_all_connections() {
        for (errno, one) in
            [(libc::ECONNABORTED, true), (libc::EPROTO, true), (libc::EMFILE, false), (libc::EINVAL, false)]
        {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!((concerns_one_connection(&error), is_shortage(&error)), (one, errno == libc::EMFILE));
        }
    }
}
