//! A process that is not our child, held by its pidfd: the number may be given to another, the descriptor never is.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Signal, pidfd_send_signal},
};
use tokio::io::{Interest, unix::AsyncFd};

/// A process, running or gone.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// `pid` is only to be told; everything is done through `pidfd`.
    pub(crate) fn new(pid: u32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// Its number, to be told to people and to a service manager.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGKILL; nothing happens where it is gone already.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it has ended.
    #[cfg_attr(not(test), expect(dead_code, reason = "the hand-over asks this"))]
    pub(crate) fn is_gone(&self) -> bool {
        let mut pidfd = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut pidfd, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Waits until it has ended (`pidfd_open(2)`: then the descriptor is readable). How it ended is its parent's to know.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        // A copy of its own, so that any number of tasks can wait: a runtime knows a descriptor only once.
        let pidfd = self.pidfd.try_clone()?;
        #[allow(
            deprecated,
            reason = "its unsafe replacement is newer than our oldest tokio, and an OwnedFd keeps its contract"
        )]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        pidfd.readable().await.map(drop)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
