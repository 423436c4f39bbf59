//! A tick from the kernel, `timerfd_create(2)`.
//!
//! Not a tokio timer: while one of those is armed, anywhere, the runtime computes deadlines and reads the clock each time it
//! goes to sleep, which is more than all that a request costs in this crate.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// How often a ticker ticks, at most and at least: the kernel takes neither a period of zero nor a period of any
/// length.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Ticks every so often, whether or not a task waits for it.
#[derive(Debug)]
pub(crate) struct Ticker {
    fd: AsyncFd<OwnedFd>,
}

impl Ticker {
    /// Starts a ticker, registered with the current runtime. A caller that counts ticks for a longer time than a day
    /// looks at the clock, too.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left for it.
    pub(crate) fn every(period: Duration) -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let period = timespec(period.clamp(SHORTEST, LONGEST))?;
        timerfd_settime(&fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: period, it_value: period })?;
        #[allow(
            deprecated,
            reason = "its unsafe replacement is newer than our oldest tokio, and an OwnedFd keeps its contract"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { fd })
    }

    /// Waits for the next tick; several that were missed are one.
    pub(crate) async fn tick(&self) -> io::Result<()> {
        let read = |fd: &OwnedFd| Ok(rustix::io::read(fd, &mut [0; 8])?);
        self.fd.async_io(Interest::READABLE, read).await.map(drop)
    }
}

fn timespec(time: Duration) -> io::Result<Timespec> {
    Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ticks_in_any_period() {
        for period in [Duration::MAX, Duration::from_secs(u64::MAX / 8), Duration::from_secs(1 << 40)] {
            Ticker::every(period).unwrap();
        }
        Ticker::every(Duration::ZERO).unwrap().tick().await.unwrap();
    }
}
