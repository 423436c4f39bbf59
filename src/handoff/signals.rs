//! What ends a service: the signals SIGTERM and SIGINT, the start of its drain, and a future of its own.
//!
//! The first request to stop ends a handoff that is under way. The operator's second signal aborts what the drain still waits for.

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use rustix::process::Pid;
use tokio::{
    signal::unix::{Signal, SignalKind},
    sync::watch,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    drain::Drain,
    error::{Error, Kind},
    listener::ActivatedListener,
    log,
    sys::signals::{handle, unblock},
};

/// A signal within this time of the first is a repeat of it: systemd sends SIGTERM "once or twice".
const REPEAT: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT, or neither.
#[derive(Debug)]
pub(crate) struct Signals {
    wanted: bool,
    installed: Option<Installed>,
    first: Option<Instant>,
}

#[derive(Debug)]
struct Installed {
    terminate: Signal,
    interrupt: Signal,
}

/// What ends a service that serves.
#[derive(Debug)]
pub(crate) struct Stop<F> {
    pub(super) drain: Drain,
    /// `None` once it has resolved.
    asked: Option<Pin<Box<F>>>,
    pub(super) signals: Signals,
    /// Whether SIGTERM was the request, which is how a service manager asks.
    pub(super) is_restart: bool,
}

impl<F: Future<Output = ()>> Stop<F> {
    /// Ends the service at a signal, when `drain` starts, or when `asked` resolves.
    pub(crate) fn new(drain: Drain, asked: F, signals: Signals) -> Self {
        Self { drain, asked: Some(Box::pin(asked)), signals, is_restart: false }
    }

    /// Resolves when the service is asked to stop.
    ///
    /// # Cancel safety
    ///
    /// It only waits; drop it and ask again.
    pub(super) async fn requested(&mut self) {
        let Self { drain, asked, signals, is_restart } = self;
        let asked_to = async {
            match asked {
                Some(stop) => stop.await,
                None => pending().await,
            }
            *asked = None;
        };
        tokio::select! {
            () = drain.started() => log::info!("draining"),
            () = asked_to => {}
            signal = signals.first() => {
                *is_restart = signal == "SIGTERM";
                log::info!(signal, "draining");
            }
        }
    }

    /// The output of `work`; `None` if the service is asked to stop before, which drops `work`.
    pub(super) async fn unless_requested<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.requested() => None,
        }
    }
}

/// What signals ask of a process that drains.
#[derive(Debug, Default)]
pub(super) struct DrainSignals {
    stop: CancellationToken,
    abort: watch::Sender<Option<&'static str>>,
}

impl DrainSignals {
    /// Resolves when a signal has asked the process to stop.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Resolves when a second signal has asked it to abort what is left, with the name of that signal.
    pub(super) async fn aborted(&self) -> &'static str {
        let mut abort = self.abort.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        abort.wait_for(Option::is_some).await.ok().and_then(|signal| *signal).unwrap_or_default()
    }

    /// The output of `work`; `None` if a signal asks to abort before, which drops `work`.
    pub(super) async fn unless_aborted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            signal = self.aborted() => {
                log::warn!(signal, "not waiting for the other processes any more");
                None
            }
        }
    }
}

/// Handles a signal from now on.
pub(super) fn install(kind: SignalKind) -> Result<Signal, Error> {
    handle(kind).map_err(|source| Kind::Signal { source }.into())
}

impl Installed {
    fn new() -> Result<Self, Error> {
        Ok(Self { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? })
    }
}

impl Signals {
    /// Both, once they are installed.
    ///
    /// For PID 1 that is now: to the first process of a container the kernel does not deliver what it has no handler for, so
    /// that a stop in the middle of a slow start would go unheard (`pid_namespaces(7)`).
    pub(crate) fn wanted() -> Self {
        let is_pid_one = rustix::process::getpid() == Pid::INIT;
        let early = is_pid_one && ActivatedListener::check_runtime("").is_ok();
        let installed = if early { Installed::new().ok() } else { None };
        Self { wanted: true, installed, first: None }
    }

    pub(crate) fn none() -> Self {
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
    async fn first(&mut self) -> &'static str {
        let name = self.next().await;
        self.first = Some(Instant::now());
        name
    }

    /// Resolves at a signal that is no repeat of the first. Where a service manager watches (`is_managed`), SIGTERM does not count: systemd
    /// sends it again to the processes that are left when the main process has ended, whenever that is.
    async fn second(&mut self, is_managed: bool) -> &'static str {
        loop {
            let name = self.next().await;
            let is_repeat = self.first.is_some_and(|first| first.elapsed() < REPEAT);
            let is_again = is_managed && name == "SIGTERM";
            if !is_repeat && !is_again {
                return name;
            }
        }
    }

    /// Notes in `drain` what signals ask of a process that has handed over, for as long as it is polled.
    pub(super) async fn watch_transfer(&mut self, is_managed: bool, drain: &DrainSignals) -> Infallible {
        let signal = self.first().await;
        log::info!(signal, "asked to stop while handing over");
        drain.stop.cancel();
        self.watch_drain(is_managed, drain).await
    }

    /// Notes in `drain` that a second signal asks to abort what is left, for as long as it is polled.
    pub(super) async fn watch_drain(&mut self, is_managed: bool, drain: &DrainSignals) -> Infallible {
        let signal = self.second(is_managed).await;
        drain.abort.send_replace(Some(signal));
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
