//! Starts a program as an orphan, with chosen descriptors at 3 and up.
//!
//! The new process is a child of init, as a service manager wants its main process: the manager does not notice the death of a process
//! that is a child of ours while we live. The steps:
//!
//! 1. Everything is prepared ([`plan`]). Then this process forks twice ([`child`]), with its memory shared ([`memory`]) and not copied.
//!    The process in between is reaped.
//! 2. The new process puts its descriptors in place, closes every other one and waits at a gate, a pipe. If we die, it reads the end of
//!    file there and exits.
//! 3. We hold its pidfd, and open the gate. It enters its directory, resets its signals and execs. Its end of the report pipe is
//!    close-on-exec: the end of file says that it has become the program, a report says why not.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

use rustix::pipe::PipeFlags;

use self::{
    child::SignalsBlocked,
    memory::{ChildGuard, SpawnResult},
    plan::ExecPlan,
    report::Report,
};
pub(crate) use self::{
    failure::{Failure, Step},
    program::{Program, Value},
};
use super::{inherit::FIRST, process::Process};

mod child;
mod failure;
mod memory;
mod moves;
mod plan;
mod program;
mod report;
#[cfg(test)]
mod tests;

/// A new process that waits to become its program; it ends when this is dropped, or with this process.
#[derive(Debug)]
#[must_use]
pub(crate) struct Waiting(ChildGuard);

impl Program {
    /// Starts it, and returns when it runs. Blocks for the few milliseconds that takes.
    pub(crate) fn start(&self) -> Result<Process, Failure> {
        self.launch()?.proceed()
    }

    /// Makes the new process, which waits at the gate.
    ///
    /// Its parent is init, or the process that reaps our orphans (`PR_SET_CHILD_SUBREAPER`).
    pub(crate) fn launch(&self) -> Result<Waiting, Failure> {
        // Declared first, so dropped last: on every way out of here signals stay blocked until the new process has ended or waits.
        let _blocked = SignalsBlocked::new().map_err(Failure::at(Step::Fork))?;
        let gate = pipe()?;
        let (report, report_writer) = pipe()?;
        let plan = ExecPlan::new(self, &gate.0, &report_writer).map_err(Failure::at(Step::Prepare))?;
        drop(report_writer);
        let mut guard = ChildGuard::new(plan, gate, report).map_err(Failure::at(Step::Prepare))?;
        // SAFETY: the guard keeps the memory, signals are blocked, and `wait_started` leaves `errno` alone until the new process waits.
        unsafe { child::start_orphan(guard.memory()) }.map_err(Failure::at(Step::Fork))?;
        wait_started(&mut guard)?;
        Ok(Waiting(guard))
    }
}

impl Waiting {
    #[cfg(test)]
    pub(crate) fn process(&self) -> &Process {
        self.0.process.as_ref().unwrap()
    }

    /// Lets it become its program, and returns when it has.
    pub(crate) fn proceed(self) -> Result<Process, Failure> {
        // Declared first, so dropped last, as in `launch`.
        let _blocked = SignalsBlocked::new().map_err(Failure::at(Step::Exec))?;
        let Self(mut guard) = self;
        guard.open_gate().map_err(Failure::at(Step::Exec))?;
        let report = report::receive(&guard.report).map_err(Failure::at(Step::Exec))?;
        match (report, guard.process.take()) {
            (None, Some(process)) => Ok(process),
            (Some(report), _) => Err(report.into()),
            (None, None) => Err(Failure { step: Step::Exec, source: io::ErrorKind::NotFound.into() }),
        }
    }
}

/// Waits until the new process is at the gate, and holds it by its pidfd.
fn wait_started(guard: &mut ChildGuard) -> Result<(), Failure> {
    guard.close_ends();
    let fork_failed = |source: io::Error| Failure { step: Step::Fork, source };
    match guard.memory().result.get() {
        SpawnResult::Yes { pid, pidfd } => {
            // SAFETY: the kernel has put it into our table, and no other code knows the number.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            guard.process = Some(Process::new(pid, pidfd));
        }
        SpawnResult::Unheld => {
            let ignored = io::Error::new(io::ErrorKind::Unsupported, "clone(2) ignores CLONE_PIDFD");
            return Err(fork_failed(ignored));
        }
        SpawnResult::No(errno) => return Err(fork_failed(io::Error::from_raw_os_error(errno))),
        SpawnResult::Unknown => return Err(fork_failed(io::Error::other("the process in between was killed"))),
    }
    match report::receive(&guard.report).map_err(Failure::at(Step::Fork))? {
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
