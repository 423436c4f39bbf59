//! A process that is not our child, held by its pidfd: the number may be given to another, the descriptor never is.

use std::{
    ffi::c_ulong,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Signal, pidfd_send_signal},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep},
};

/// `PIDFD_GET_INFO` of `linux/pidfd.h`: `_IOWR(0xFF, 11, struct pidfd_info)`, with the first version of that structure.
const PIDFD_GET_INFO: c_ulong = (3 << 30) | ((size_of::<Info>() as c_ulong) << 16) | (0xff << 8) | 11;

/// `PIDFD_INFO_EXIT`: the exit status is asked for, and is there.
const INFO_EXIT: u64 = 1 << 3;

/// How often to look whether a process that has ended is reaped.
const REAPED_PAUSE: Duration = Duration::from_millis(2);

/// `struct pidfd_info`.
#[derive(Debug, Default)]
#[repr(C)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

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

    /// How it ended, if the kernel says so: since Linux 6.15, to each that holds a pidfd, once the parent has reaped the process. Waits for
    /// that up to `limit`.
    pub(crate) async fn exit_status(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.exit_info() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => sleep(REAPED_PAUSE).await,
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// `None` as long as it runs, or nothing has reaped it; an error where the kernel does not know the question.
    fn exit_info(&self) -> io::Result<Option<ExitStatus>> {
        let mut info = Info { mask: INFO_EXIT, ..Info::default() };
        // SAFETY: the kernel writes no more than the size that is part of the request, into a structure of that size.
        let asked = unsafe { libc::ioctl(self.pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &mut info) };
        if asked == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok((info.mask & INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code)))
    }

    /// Waits until it has ended (`pidfd_open(2)`: then the descriptor is readable).
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
