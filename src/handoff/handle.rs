//! The handle of a service on its handoffs.
//!
//! `calls` is not bounded. The loop of the server answers each call: with a refusal at once while a handoff is under
//! way, so as many wait as callers do. The generation is `Relaxed`: it is a number that is shown, and orders nothing.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::failure::failed;
use crate::error::Error;

/// Starts a handoff to the next process, and knows where this process stands. Clones are one and the same.
///
/// [`Server::handoff`](crate::Server::handoff) gives one, and so does [`Active::handoff`](super::Active::handoff).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), axum_activation::Error> {
/// use axum::{Router, routing::post};
/// use axum_activation::{ActivatedListeners, Server};
///
/// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
/// let server = Server::new(activated);
/// let handoff = server.handoff();
/// let deploy = move || {
///     let handoff = handoff.clone();
///     async move {
///         match handoff.start().await {
///             Ok(pid) => format!("process {pid} serves now\n"),
///             Err(error) => format!("{error}\n"),
///         }
///     }
/// };
/// let server = server.serve("http", Router::new().route("/deploy", post(deploy)));
/// # drop(server);
/// # Ok(())
/// # }
/// ```
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

/// The sender of the outcome to a caller of [`Handoff::start`].
pub(crate) type Call = oneshot::Sender<Result<u32, Error>>;

/// The calls of all clones of a handle. A few at most: each waits for its outcome.
pub(crate) type Calls = mpsc::UnboundedReceiver<Call>;

impl Handoff {
    pub(crate) fn new() -> (Self, Calls) {
        let (calls, called) = mpsc::unbounded_channel();
        let shared = Shared {
            calls,
            generation: AtomicU64::new(0),
            predecessor_gone: CancellationToken::new(),
            older: watch::Sender::new(0),
        };
        (Self { shared: Arc::new(shared) }, called)
    }

    /// Starts the next process and hands over to it. Returns its process id when it has taken over.
    ///
    /// It is the same as SIGHUP, with the outcome.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum::Router;
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let server = Server::new(activated).serve("http", Router::new()).handoff_by_spawn(false);
    /// let (handoff, drain) = (server.handoff(), server.drain());
    /// let running = tokio::spawn(server.run());
    ///
    /// let error = handoff.start().await.unwrap_err();
    /// assert!(error.is_handoff_failure()); // it is forbidden, and the server serves on
    /// drain.start();
    /// running.await.unwrap()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_handoff_failure`](Error::is_handoff_failure). Nothing has changed then, and it can be tried again.
    ///
    /// - This process may not start the next one ([`Server::handoff_by_spawn`](crate::Server::handoff_by_spawn)).
    /// - The next process was not started, failed, or was not ready in time.
    /// - Another handoff is under way, or as many older generations still drain as may.
    /// - This process does not serve yet, or not any more.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the handoff goes on, and its outcome is logged.
    pub async fn start(&self) -> Result<u32, Error> {
        let (answer, answered) = oneshot::channel();
        let over = || failed("this process does not serve (any more)");
        self.shared.calls.send(answer).map_err(|_| over())?;
        answered.await.unwrap_or_else(|_| Err(over()))
    }

    /// How many handoffs there were up to this process; 0 in the first, and before the server runs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// let server = Server::new(ActivatedListeners::from_env()?);
    /// assert_eq!(server.handoff().generation(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Relaxed)
    }

    /// Resolves when there is no process before this one any more: at once in the first, and otherwise when the
    /// predecessor has handed over its last connection and its final state, or has died.
    ///
    /// What only one process at a time may do (a scheduler, a lock file) starts then:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum::Router;
    /// use axum_activation::{ActivatedListeners, Server};
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let server = Server::new(activated).serve("http", Router::new());
    /// let (handoff, drain) = (server.handoff(), server.drain());
    /// tokio::spawn(async move {
    ///     handoff.predecessor_gone().await;
    ///     println!("this process runs the nightly jobs from now on");
    ///     drain.start();
    /// });
    /// server.run().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// It only waits. Dropped, it can be asked for again.
    pub async fn predecessor_gone(&self) {
        self.shared.predecessor_gone.cancelled().await;
    }

    pub(crate) fn set_generation(&self, generation: u64) {
        self.shared.generation.store(generation, Ordering::Relaxed);
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
