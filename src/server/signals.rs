//! The signals that end a server.

use std::{future::pending, time::Duration};

use rustix::process::Pid;
use tokio::{
    signal::unix::{Signal, SignalKind},
    time::Instant,
};

use crate::{
    error::{Error, Kind},
    listener::ActivatedListener,
    sys::signals::{handle, unblock},
};

/// A signal within this time of the first is a repeat of it: systemd sends SIGTERM "once or twice".
const REPEAT: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT, or neither.
#[derive(Debug)]
pub(super) struct Signals {
    wanted: bool,
    installed: Option<Installed>,
    first: Option<Instant>,
}

#[derive(Debug)]
struct Installed {
    terminate: Signal,
    interrupt: Signal,
}

impl Installed {
    fn new() -> Result<Self, Error> {
        let install = |kind| handle(kind).map_err(|source| Error::from(Kind::Signal { source }));
        Ok(Self { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? })
    }
}

impl Signals {
    /// Both, once they are installed.
    ///
    /// For PID 1 that is now: to the first process of a container the kernel does not deliver what it has no handler for, so
    /// that a stop in the middle of a slow start would go unheard (`pid_namespaces(7)`).
    pub(super) fn wanted() -> Self {
        let is_pid_one = rustix::process::getpid() == Pid::INIT;
        let early = is_pid_one && ActivatedListener::check_runtime("").is_ok();
        let installed = if early { Installed::new().ok() } else { None };
        Self { wanted: true, installed, first: None }
    }

    pub(super) fn none() -> Self {
        Self { wanted: false, installed: None, first: None }
    }

    /// Handles them from now on, if they are wanted.
    pub(super) fn install(&mut self) -> Result<(), Error> {
        match &self.installed {
            None if self.wanted => self.installed = Some(Installed::new()?),
            None => {}
            // The thread that installed them early may have ended since.
            Some(_) => unblock(&[libc::SIGTERM, libc::SIGINT]).map_err(|source| Kind::Signal { source })?,
        }
        Ok(())
    }

    /// Resolves at the first signal, with its name.
    pub(super) async fn first(&mut self) -> &'static str {
        let name = self.next().await;
        self.first = Some(Instant::now());
        name
    }

    /// Resolves at a signal that is no repeat of the first.
    pub(super) async fn second(&mut self) -> &'static str {
        loop {
            let name = self.next().await;
            if self.first.is_none_or(|first| first.elapsed() >= REPEAT) {
                return name;
            }
        }
    }

    /// As [`second`](Self::second), for a process that has handed over. Where a service manager watches (`is_managed`), SIGTERM cuts
    /// nothing: systemd sends it again to whoever is left when the main process has ended, whenever that is.
    pub(super) async fn second_of_old(&mut self, is_managed: bool) -> &'static str {
        loop {
            let name = self.second().await;
            if !is_managed || name != "SIGTERM" {
                return name;
            }
        }
    }

    async fn next(&mut self) -> &'static str {
        match &mut self.installed {
            None => pending().await,
            Some(Installed { terminate, interrupt }) => tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            },
        }
    }
}
