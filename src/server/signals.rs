//! The signals that end a server.

use std::{convert::Infallible, future::pending, time::Duration};

use rustix::process::Pid;
use tokio::{
    signal::unix::{Signal, SignalKind},
    sync::watch,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Kind},
    listener::ActivatedListener,
    log,
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

/// What signals have asked of a process that has handed over.
#[derive(Debug, Default)]
pub(super) struct Heard {
    stop: CancellationToken,
    abort: watch::Sender<Option<&'static str>>,
}

impl Heard {
    /// Whether one has asked it to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves when one has asked it to stop.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Resolves when one has asked it to abort what it still does, with its name.
    pub(super) async fn aborted(&self) -> &'static str {
        let mut abort = self.abort.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        abort.wait_for(Option::is_some).await.ok().and_then(|signal| *signal).unwrap_or_default()
    }
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

    /// As [`second`](Self::second), for a process that has handed over. Where a service manager watches (`is_managed`), SIGTERM aborts
    /// nothing: systemd sends it again to whoever is left when the main process has ended, whenever that is.
    pub(super) async fn second_of_old(&mut self, is_managed: bool) -> &'static str {
        loop {
            let name = self.second().await;
            if !is_managed || name != "SIGTERM" {
                return name;
            }
        }
    }

    /// Notes in `heard` what signals ask of a process that has handed over, for as long as it is polled.
    pub(super) async fn watch_old(&mut self, is_managed: bool, heard: &Heard) -> Infallible {
        let signal = self.first().await;
        log::info!(signal, "told to stop while handing over");
        heard.stop.cancel();
        let signal = self.second_of_old(is_managed).await;
        heard.abort.send_replace(Some(signal));
        pending().await
    }

    /// Notes in `heard` that a signal asks to abort what is left of the drain, for as long as it is polled.
    pub(super) async fn watch_drain(&mut self, heard: &Heard) -> Infallible {
        let signal = self.second().await;
        heard.abort.send_replace(Some(signal));
        pending().await
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
