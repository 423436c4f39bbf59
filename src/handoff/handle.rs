//! The handle of a service on its handoffs.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::attempt::failed;
use crate::error::Error;

/// Asks for a handoff to the next process, and knows where this one stands. Clones are one and the same.
///
/// [`Server::handoff`](crate::Server::handoff) gives one.
#[derive(Clone)]
pub struct Handoff {
    shared: Arc<Shared>,
}

struct Shared {
    calls: mpsc::UnboundedSender<Call>,
    generation: AtomicU64,
    predecessor_gone: CancellationToken,
    /// How many older generations still drain.
    older: watch::Sender<u32>,
}

/// Somebody who asks for a handoff and waits for what becomes of it.
pub(crate) type Call = oneshot::Sender<Result<u32, Error>>;

impl Handoff {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Call>) {
        let (calls, called) = mpsc::unbounded_channel();
        let shared = Shared {
            calls,
            generation: AtomicU64::new(0),
            predecessor_gone: CancellationToken::new(),
            older: watch::Sender::new(0),
        };
        (Self { shared: Arc::new(shared) }, called)
    }

    /// Starts the next process and hands over to it; returns its process id when it has taken over.
    ///
    /// The same as SIGHUP, with the outcome.
    ///
    /// # Errors
    ///
    /// [`is_handoff_failure`](Error::is_handoff_failure): this process may not start the next one
    /// ([`Server::handoff_by_spawn`](crate::Server::handoff_by_spawn)), that was not started, failed or was not ready in time, or
    /// another handoff is under way, or as many older generations still drain as may. Nothing has changed then, and it can be tried
    /// again.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the handoff goes on without anybody waiting for it.
    pub async fn start(&self) -> Result<u32, Error> {
        let (answer, answered) = oneshot::channel();
        let over = || failed("this process does not serve (any more)");
        self.shared.calls.send(answer).map_err(|_| over())?;
        answered.await.unwrap_or_else(|_| Err(over()))
    }

    /// How many handoffs there were up to this process; 0 in the first, and before the server runs.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Relaxed)
    }

    /// Resolves when there is no process before this one any more: at once in the first, and otherwise when the predecessor has
    /// handed over its last connection and its last word, or has died.
    ///
    /// # Cancel safety
    ///
    /// It only waits; drop it and ask again.
    pub async fn predecessor_gone(&self) {
        self.shared.predecessor_gone.cancelled().await;
    }

    pub(crate) fn set_generation(&self, generation: u64) {
        self.shared.generation.store(generation, Ordering::Relaxed);
    }

    /// How many older generations still drain.
    pub(crate) fn older(&self) -> watch::Receiver<u32> {
        self.shared.older.subscribe()
    }

    /// Sets how many older generations still drain.
    pub(crate) fn older_sender(&self) -> watch::Sender<u32> {
        self.shared.older.clone()
    }

    pub(crate) fn note_predecessor_gone(&self) {
        self.shared.older.send_replace(0);
        self.shared.predecessor_gone.cancel();
    }

    pub(crate) fn is_predecessor_gone(&self) -> bool {
        self.shared.predecessor_gone.is_cancelled()
    }
}

impl fmt::Debug for Handoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoff")
            .field("generation", &self.generation())
            .field("predecessor_gone", &self.shared.predecessor_gone.is_cancelled())
            .finish_non_exhaustive()
    }
}
