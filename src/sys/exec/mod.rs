//! Starts a program as an orphan, with chosen descriptors at 3 and up.
//!
//! Nobody's child but init's, as a service manager wants its main process: as a child of ours its death would go unnoticed
//! while we live. In order:
//!
//! 1. Everything is prepared, then forked twice ([`child`]); the process in between is reaped.
//! 2. The new process puts its descriptors in place, closes every other one and waits at a gate. Where we die, it reads the
//!    end of file there and ends.
//! 3. We hold its pidfd, and open the gate: it enters its directory, resets its signals and execs. Its end of the
//!    report pipe is close-on-exec: end of file says that it has become the program, a word says why not.

use std::{
    error::Error,
    ffi::OsString,
    fmt, io,
    os::fd::{FromRawFd, OwnedFd},
    path::PathBuf,
};

use rustix::pipe::PipeFlags;

use self::{prepared::Prepared, report::Report};
use super::{inherit::FIRST, process::Process};

mod child;
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
pub(crate) struct Waiting {
    process: Process,
    gate: OwnedFd,
    /// Read by nobody: with it open, a write to the gate of a process that has been killed is no broken pipe.
    _gate_reader: OwnedFd,
    report: OwnedFd,
}

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
        let (gate_reader, gate) = pipe()?;
        let (report, report_writer) = pipe()?;
        let prepared = Prepared::new(self, &gate_reader, &report_writer).map_err(Failure::at(Step::Prepare))?;
        drop(report_writer);
        child::fork_orphan(&prepared).map_err(Failure::at(Step::Fork))?;
        drop(prepared);
        let process = birth(&report)?;
        Ok(Waiting { process, gate, _gate_reader: gate_reader, report })
    }
}

impl Waiting {
    #[cfg(test)]
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Lets it become its program, and returns when it has.
    pub(crate) fn proceed(self) -> Result<Process, Failure> {
        let Self { process, gate, _gate_reader, report } = self;
        rustix::io::retry_on_intr(|| rustix::io::write(&gate, &[1])).map_err(Failure::at(Step::Exec))?;
        drop(gate);
        match report::receive(&report).map_err(Failure::at(Step::Exec))? {
            None => Ok(process),
            Some(report) => Err(report.into()),
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
            Report::Born { .. } => Self { step: Step::Fork, source: io::ErrorKind::InvalidData.into() },
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

/// Waits for the word of the process in between, which has ended: it is in the pipe, before or behind what the new
/// process may have had to say.
fn birth(report: &OwnedFd) -> Result<Process, Failure> {
    let mut born = None;
    let mut failed = None;
    while born.is_none() {
        match report::receive(report).map_err(Failure::at(Step::Fork))? {
            Some(Report::Born { pid, pidfd }) => {
                // SAFETY: the process in between has put it into our table and told nobody but us.
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
                born = Some(Process::new(pid, pidfd));
            }
            Some(report) => failed = Some(Failure::from(report)),
            None => break,
        }
    }
    match (born, failed) {
        (Some(process), None) => Ok(process),
        (_, Some(failure)) => Err(failure),
        (None, None) => Err(Failure::at(Step::Fork)(io::Error::other("the process in between was killed"))),
    }
}

/// Close-on-exec, both ends, and never a standard stream: those the new process keeps.
fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Failure::at(Step::Prepare))?;
    let above_streams = |end| rustix::io::fcntl_dupfd_cloexec(end, FIRST).map_err(Failure::at(Step::Prepare));
    Ok((above_streams(reader)?, above_streams(writer)?))
}
