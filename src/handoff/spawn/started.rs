//! A new process that the old one has started, until it lives by itself.

use std::{future::pending, io, time::Duration};

use crate::{log, sys::process::Process, wire::error::Refusal};

/// How long a process that has closed the control socket may take until it is known how it ended.
const STATUS_LIMIT: Duration = Duration::from_millis(250);

/// A process that was started; killed when dropped.
#[derive(Debug)]
pub(crate) struct StartedProcess {
    /// `None` once it lives on by itself.
    process: Option<Process>,
}

impl StartedProcess {
    pub(crate) fn new(process: Process) -> Self {
        Self { process: Some(process) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// Resolves when it has ended.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        match &self.process {
            Some(process) => process.ended().await,
            None => pending().await,
        }
    }

    /// It lives on by itself.
    pub(crate) fn leave(mut self) -> Option<Process> {
        self.process.take()
    }

    /// Why it is not ready: its refusal, or how it has ended.
    pub(crate) async fn explain(&self, refusal: &Refusal) -> String {
        if refusal.is_gone() {
            self.ended_early().await
        } else {
            format!("the next process (pid {}): {refusal}", self.pid())
        }
    }

    /// Says that it has ended, and how if the kernel tells.
    pub(crate) async fn ended_early(&self) -> String {
        let status = match &self.process {
            Some(process) => process.exit_status(STATUS_LIMIT).await,
            None => None,
        };
        let how = status.map_or(String::new(), |status| format!(" ({status})"));
        format!("the next process (pid {}) ended before it was ready{how}; what it wrote says why", self.pid())
    }
}

impl Drop for StartedProcess {
    fn drop(&mut self) {
        let killed = self.process.as_ref().map(Process::kill);
        if let Some(Err(error)) = killed {
            log::warn!(%error, pid = self.pid(), "the next process could not be killed");
        }
    }
}
