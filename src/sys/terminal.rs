//! The terminal that a process was started in, and whether that is still there.
//!
//! SIGHUP means two things: `systemctl reload` and `kill -HUP` ask for a handoff, and a terminal that closes ends what
//! runs in it. The kernel takes the terminal away before it sends the signal, so `/dev/tty` tells both apart: it fails
//! with `ENXIO` where there was a terminal and is none any more (`tty(4)`).

use std::{fs::File, io, os::unix::fs::OpenOptionsExt};

use super::signals::is_ignored;

/// What there was of a controlling terminal at the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    was_there: bool,
}

impl Terminal {
    /// Notes whether this process has one; before there is a handler for SIGHUP. Who ignores that until then is to outlive the
    /// terminal (`nohup(1)`), so it counts as none.
    pub(crate) fn note() -> Self {
        Self { was_there: !is_ignored(libc::SIGHUP) && open().is_ok() }
    }

    /// Whether it was there and is no more: the kernel takes it away before it sends SIGHUP because of that (`tty(4)`).
    pub(crate) fn has_hung_up(self) -> bool {
        self.was_there && open().is_err_and(|error| error.raw_os_error() == Some(libc::ENXIO))
    }
}

/// Whether this process leads the session of a terminal: when it ends, the kernel takes the terminal from the session, and sends SIGHUP
/// to what runs in its foreground (`setsid(2)`, `tty_ioctl(4)`). Not for one that is to outlive the terminal.
pub(crate) fn leads_session() -> bool {
    // By hand, as rustix takes no 0, which the kernel gives for a leader outside of the pid namespace.
    // SAFETY: no memory is passed.
    let leader = unsafe { libc::getsid(0) };
    u32::try_from(leader) == Ok(std::process::id()) && Terminal::note().was_there
}

fn open() -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open("/dev/tty")
}
