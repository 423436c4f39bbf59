//! The signals that end a server.

use std::{future::pending, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::error::{Error, Kind};

/// A signal within this time of the first is a repeat of it: systemd sends SIGTERM "once or twice".
const REPEAT: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT, or neither.
#[derive(Debug)]
pub(super) struct Signals {
    installed: Option<Installed>,
    first: Option<Instant>,
}

#[derive(Debug)]
struct Installed {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn install() -> Result<Self, Error> {
        let install = |kind| signal(kind).map_err(|source| Error::from(Kind::Signal { source }));
        let installed =
            Installed { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? };
        Ok(Self { installed: Some(installed), first: None })
    }

    pub(super) fn none() -> Self {
        Self { installed: None, first: None }
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
