//! Starts a program as an orphan, with chosen descriptors at 3 and up.
//!
//! Nobody's child but init's, as a service manager wants its main process: as a child of ours its death would go unnoticed
//! while we live. In order:
//!
//! 1. Everything is prepared, then forked twice ([`child`]), with our memory shared ([`ground`]) and not copied; the process in
//!    between is reaped.
//! 2. The new process puts its descriptors in place, closes every other one and waits at a gate. Where we die, it reads the
//!    end of file there and ends.
//! 3. We hold its pidfd, and open the gate: it enters its directory, resets its signals and execs. Its end of the
//!    report pipe is close-on-exec: end of file says that it has become the program, a word says why not.

use std::{
    error::Error,
    ffi::{OsString, c_int},
    fmt, io,
    os::fd::{FromRawFd, OwnedFd},
    path::PathBuf,
};

use rustix::pipe::PipeFlags;

use self::{
    child::SignalsBlocked,
    ground::{ChildGuard, SpawnResult},
    prepared::ExecPlan,
    report::Report,
};
use super::{inherit::FIRST, process::Process};

mod child;
mod ground;
mod moves;
mod prepared;
mod report;
#[cfg(test)]
mod tests;

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Program {
    /// With a slash in it: nothing is searched.
    pub(crate) path: PathBuf,
    /// From `argv[0]` on.
    pub(crate) arguments: Vec<OsString>,
    /// All of it.
    pub(crate) environment: Vec<(OsString, Value)>,
    /// The working directory.
    pub(crate) directory: PathBuf,
    /// At 3 and up, in this order, in blocking or non-blocking mode as they are here.
    pub(crate) fds: Vec<OwnedFd>,
    /// The soft limit of open files; `None` for that of this process.
    pub(crate) open_files: Option<u64>,
    /// Signals that are ignored, beside those that this process ignores.
    pub(crate) ignored: Vec<c_int>,
}

/// The value of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(OsString),
    /// The process id of the new process.
    OwnPid,
}

/// A new process that waits to become its program; it ends when this is dropped, or with this process.
#[derive(Debug)]
#[must_use]
pub(crate) struct Waiting(ChildGuard);

/// What was going on when a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Making pipes, copying texts; nothing has been started.
    Prepare = 1,
    Fork,
    /// Putting the descriptors in place.
    Descriptors,
    /// Entering the working directory.
    Directory,
    Exec,
}

/// A start that failed; nothing of it is left.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) source: io::Error,
}

impl Program {
    /// Starts it, and returns when it runs. Blocks for the few milliseconds that takes.
    pub(crate) fn start(&self) -> Result<Process, Failure> {
        self.launch()?.proceed()
    }

    /// Makes the new process, which waits.
    ///
    /// Its parent will be init, or who has become the reaper of our orphans (`PR_SET_CHILD_SUBREAPER`).
    pub(crate) fn launch(&self) -> Result<Waiting, Failure> {
        // First, so that it is dropped last: on every way out of here signals stay blocked until the new process is gone or waits.
        let _blocked = SignalsBlocked::new().map_err(Failure::at(Step::Fork))?;
        let gate = pipe()?;
        let (report, report_writer) = pipe()?;
        let prepared = ExecPlan::new(self, &gate.0, &report_writer).map_err(Failure::at(Step::Prepare))?;
        drop(report_writer);
        let mut footing = ChildGuard::new(prepared, gate, report).map_err(Failure::at(Step::Prepare))?;
        // SAFETY: the footing keeps the ground, signals are blocked, and `birth` leaves `errno` alone until the new process waits.
        unsafe { child::start_orphan(footing.ground()) }.map_err(Failure::at(Step::Fork))?;
        wait_started(&mut footing)?;
        Ok(Waiting(footing))
    }
}

impl Waiting {
    #[cfg(test)]
    pub(crate) fn process(&self) -> &Process {
        self.0.process.as_ref().unwrap()
    }

    /// Lets it become its program, and returns when it has.
    pub(crate) fn proceed(self) -> Result<Process, Failure> {
        // First, so that it is dropped last, as in `launch`.
        let _blocked = SignalsBlocked::new().map_err(Failure::at(Step::Exec))?;
        let Self(mut footing) = self;
        footing.open_gate().map_err(Failure::at(Step::Exec))?;
        let said = report::receive(&footing.report).map_err(Failure::at(Step::Exec))?;
        match (said, footing.process.take()) {
            (None, Some(process)) => Ok(process),
            (Some(report), _) => Err(report.into()),
            (None, None) => Err(Failure { step: Step::Exec, source: io::ErrorKind::NotFound.into() }),
        }
    }
}

impl Step {
    const ALL: [Self; 5] = [Self::Prepare, Self::Fork, Self::Descriptors, Self::Directory, Self::Exec];
}

impl Failure {
    fn at<E: Into<io::Error>>(step: Step) -> impl Fn(E) -> Self {
        move |source| Self { step, source: source.into() }
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        match report {
            Report::Failed(step, errno) => Self { step, source: io::Error::from_raw_os_error(errno) },
            Report::AtGate => Self { step: Step::Fork, source: io::ErrorKind::InvalidData.into() },
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.step {
            Step::Prepare => "cannot prepare a new process",
            Step::Fork => "cannot fork",
            Step::Descriptors => "cannot pass the descriptors",
            Step::Directory => "cannot enter the working directory",
            Step::Exec => "cannot execute the program",
        })
    }
}

/// Takes hold of the new process, and returns when it waits.
fn wait_started(footing: &mut ChildGuard) -> Result<(), Failure> {
    footing.close_ends();
    let fork_failed = |source: io::Error| Failure { step: Step::Fork, source };
    match footing.ground().born.get() {
        SpawnResult::Yes { pid, pidfd } => {
            // SAFETY: the kernel has put it into our table and told nobody but us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            footing.process = Some(Process::new(pid, pidfd));
        }
        SpawnResult::Unheld => {
            let ignored = io::Error::new(io::ErrorKind::Unsupported, "clone(2) ignores CLONE_PIDFD");
            return Err(fork_failed(ignored));
        }
        SpawnResult::No(errno) => return Err(fork_failed(io::Error::from_raw_os_error(errno))),
        SpawnResult::Unknown => return Err(fork_failed(io::Error::other("the process in between was killed"))),
    }
    match report::receive(&footing.report).map_err(Failure::at(Step::Fork))? {
        Some(Report::AtGate) => Ok(()),
        Some(failed) => Err(failed.into()),
        None => Err(fork_failed(io::Error::other("the new process was killed"))),
    }
}

/// Close-on-exec, both ends, and never a standard stream: those the new process keeps.
fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Failure::at(Step::Prepare))?;
    let above_streams = |end| rustix::io::fcntl_dupfd_cloexec(end, FIRST).map_err(Failure::at(Step::Prepare));
    Ok((above_streams(reader)?, above_streams(writer)?))
}
