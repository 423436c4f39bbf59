//! A process that is not a child of this one, held by its pidfd (`pidfd_open(2)`).
//!
//! A process id may be given to another process as soon as the process is reaped, and init reaps the next process of a
//! service, not this one. A pidfd goes on to name the same process: a signal that is sent to it reaches that process or
//! none.

use std::{
    ffi::{c_ulong, c_void},
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
    ptr,
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

/// How often to look how a process has ended.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

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
    /// `pid` is only shown; everything is done through `pidfd`.
    pub(crate) fn new(pid: u32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// Its number, for people and for a service manager.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGKILL. Nothing happens where the process is gone already.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it has ended.
    #[cfg_attr(not(test), expect(dead_code, reason = "the handoff asks this"))]
    pub(crate) fn is_gone(&self) -> bool {
        let mut pidfd = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut pidfd, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// How it ended, if that can be known to another than its parent: while it is a zombie, to its own user; once it is reaped, since Linux
    /// 6.15. Waits up to `limit` for it to be either.
    pub(crate) async fn exit_status(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.zombie_status().map_or_else(|| self.exit_info(), |status| Ok(Some(status))) {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => sleep(LOOK_PAUSE).await,
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// `None` unless it has ended, is not reaped yet, and is of this user (`proc_pid_stat(5)`).
    fn zombie_status(&self) -> Option<ExitStatus> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // Until it is reaped no other process has its number.
        self.exists().then(|| zombie_status(&stat)).flatten()
    }

    /// Whether it runs, or is a zombie.
    fn exists(&self) -> bool {
        let (fd, nothing) = (self.pidfd.as_raw_fd(), ptr::null_mut::<c_void>());
        // SAFETY: sends no signal, and reads nothing of ours.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, nothing, 0) == 0 }
    }

    /// `None` as long as it is not reaped; an error where the kernel does not know the question.
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
    /// # Errors
    ///
    /// The system has no descriptor left to wait with.
    ///
    /// # Cancel safety
    ///
    /// Dropping it only stops waiting.
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

/// Of `/proc/PID/stat`. The name, which may contain anything, ends with the last parenthesis; the state follows, and at the end the exit
/// status.
fn zombie_status(stat: &str) -> Option<ExitStatus> {
    let (_, fields) = stat.rsplit_once(')')?;
    let status = fields.trim().strip_prefix("Z ")?.rsplit(' ').next()?;
    status.parse().ok().map(ExitStatus::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_zombie_is_its_last_field() {
        let status = |stat: &str| zombie_status(stat).map(|status| status.to_string());
        assert_eq!(status("7 (a) Z) Z 1 7 0 9\n").as_deref(), Some("signal: 9 (SIGKILL)"));
        assert_eq!(status("7 (sh) Z 1 7 0 768\n").as_deref(), Some("exit status: 3"));
        assert_eq!(status("7 (Z) S 1 7 0 0\n"), None);
        assert_eq!(status(""), None);
    }
}
