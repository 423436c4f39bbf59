//! The handoff for services that another server serves than [`Server`](crate::Server): listeners and state go over,
//! connections drain.
//!
//! Three types are the three steps, so that a wrong order does not compile:
//!
//! | type | the process | next |
//! | --- | --- | --- |
//! | [`HandoffBuilder`] | has read its configuration | [`join`](HandoffBuilder::join): connects to the old process, imports its state |
//! | [`Pending`] | initialises itself, the old process serves | [`ready`](Pending::ready): takes over |
//! | [`Active`] | serves, and hands over when it is asked to | [`finish`](Active::finish): the last step of a process that ends |

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    coordinator::Coordinator,
    handle::Handoff,
    main_pid::{set_main_pid, take_back_main_pid},
    new::takeover::{PendingTakeover, Takeover},
    options::Options,
    service::{Event, Service},
    signals::{Signals, Stop},
    spawn::claim::Claim,
    state_part::{StatePart, StateParts},
};
use crate::{
    activation::ActivatedListeners,
    drain::Drain,
    error::{Error, Kind},
    idle_connection::IdleConnection,
    notify::Notifier,
    wire::{
        moved::ReplacedListener,
        reason::ReturnReason,
        receive::NewProcess,
        section::Section,
        send::{OldProcess, SenderHandle},
    },
};

/// Handoff for a service that is served otherwise than by [`Server`](crate::Server): by plain
/// [`axum::serve`](fn@axum::serve), tonic, or any server on tokio.
///
/// Listeners and state go to the next process, and the old one drains. Connections move under `Server` alone: here the
/// old process closes them when their time is over, as at any drain. Where `NOTIFY_SOCKET` is set, the old process
/// tells systemd that the new one is the main process of the unit; the program itself sends `READY=1`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use axum::Router;
/// use axum_activation::{ActivatedListeners, Drain, handoff::Handoff};
///
/// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
/// let listener = activated.one("http")?;
/// let drain = Drain::new();
///
/// let pending = Handoff::builder(&activated).join().await?; // the old process, if there is one, still serves
/// // here a program fills its caches
/// let handoff = pending.ready(&drain).await?; // from here on this process serves
/// # drain.start(); // or SIGTERM, or a successor
///
/// axum::serve(listener.stop_on(&drain), Router::new())
///     .with_graceful_shutdown(drain.started_after(Duration::from_millis(10)))
///     .await?;
/// handoff.finish().await; // gives the final state to the successor, if there is one
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct HandoffBuilder {
    activated: ActivatedListeners,
    options: Options,
}

/// A process that initialises itself. Its predecessor, if there is one, serves until it is [`ready`](Self::ready).
///
/// Dropped, it tells the predecessor that it does not take over.
#[derive(Debug)]
#[must_use = "the predecessor waits until this process is ready"]
pub struct Pending {
    activated: ActivatedListeners,
    coordinator: Coordinator<WaitForCancellationFutureOwned>,
    finished: CancellationToken,
    /// `None` if this process was stopped before.
    takeover: Option<PendingTakeover>,
}

/// A process that serves, and hands over when it is asked to.
///
/// Dropped, it hands over no more, and a successor takes it for dead. So keep it until the service has ended, and then
/// call [`finish`](Self::finish).
#[derive(Debug)]
#[must_use = "it hands over as long as it is kept"]
pub struct Active {
    handle: Handoff,
    committed: CancellationToken,
    finished: CancellationToken,
    running: JoinHandle<()>,
    claim: Arc<Claim>,
}

impl Handoff {
    /// A builder, for a service that is served otherwise than by [`Server`](crate::Server).
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, handoff::Handoff};
    ///
    /// let activated = ActivatedListeners::from_env()?;
    /// let builder = Handoff::builder(&activated);
    /// # let _ = builder;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn builder(activated: &ActivatedListeners) -> HandoffBuilder {
        HandoffBuilder { activated: activated.clone(), options: Options::default() }
    }
}

impl HandoffBuilder {
    /// How long the next process may take until it is ready; 30 s by default. Then it is killed, and this one serves
    /// on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::{ActivatedListeners, handoff::Handoff};
    ///
    /// let builder = Handoff::builder(&ActivatedListeners::from_env()?).timeout(Duration::from_secs(120));
    /// # let _ = builder;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = limit;
        self
    }

    /// The working directory of the next process, see
    /// [`Server::successor_directory`](crate::Server::successor_directory).
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, handoff::Handoff};
    ///
    /// let builder = Handoff::builder(&ActivatedListeners::from_env()?).successor_directory("/srv/app/current");
    /// # let _ = builder;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn successor_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.directory = Some(path.into());
        self
    }

    /// Leaves SIGHUP and SIGUSR2 to the program; [`Handoff::start`] asks for a handoff then.
    ///
    /// One server of a process can have them, so each `Handoff::builder` beside it needs this, see
    /// [`Server::without_handoff_signals`](crate::Server::without_handoff_signals). Without it a SIGHUP that says that
    /// the terminal is gone hands over too, where `Server` drains.
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, handoff::Handoff};
    ///
    /// let builder = Handoff::builder(&ActivatedListeners::from_env()?).without_signals();
    /// # let _ = builder;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn without_signals(mut self) -> Self {
        self.options.signals = false;
        self
    }

    /// Whether this process may start the next one, see [`Server::handoff_by_spawn`](crate::Server::handoff_by_spawn).
    ///
    /// ```
    /// use axum_activation::{ActivatedListeners, handoff::Handoff};
    ///
    /// let builder = Handoff::builder(&ActivatedListeners::from_env()?).handoff_by_spawn(false);
    /// # let _ = builder;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn handoff_by_spawn(mut self, allowed: bool) -> Self {
        self.options.by_spawn = Some(allowed);
        self
    }

    /// Adds a part of the service's state that the new process imports in [`join`](Self::join), see
    /// [`Server::handoff_state`](crate::Server::handoff_state).
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use axum_activation::{ActivatedListeners, handoff::{Handoff, Snapshot, StatePart}};
    ///
    /// let greeting = StatePart::new(
    ///     "greeting",
    ///     || async { Ok::<_, Infallible>("hello") },
    ///     |snapshot: Snapshot| async move {
    ///         println!("the old process says {:?}", snapshot.bytes());
    ///         Ok::<_, Infallible>(())
    ///     },
    /// );
    /// let builder = Handoff::builder(&ActivatedListeners::from_env()?).handoff_state(greeting);
    /// # let _ = builder;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn handoff_state(mut self, part: StatePart) -> Self {
        self.options.states.add(part);
        self
    }

    /// Adds a part of the service's state that the old process exports in [`Active::finish`], see
    /// [`Server::final_handoff_state`](crate::Server::final_handoff_state).
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use axum_activation::{ActivatedListeners, handoff::{Handoff, Snapshot, StatePart}};
    ///
    /// let count = StatePart::new(
    ///     "requests",
    ///     || async { Ok::<_, Infallible>(42_u64.to_le_bytes().to_vec()) },
    ///     |_: Snapshot| async { Ok::<_, Infallible>(()) },
    /// );
    /// let builder = Handoff::builder(&ActivatedListeners::from_env()?).final_handoff_state(count);
    /// # let _ = builder;
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    pub fn final_handoff_state(mut self, part: StatePart) -> Self {
        self.options.final_states.add(part);
        self
    }

    /// Asks the predecessor what it hands over, if there is one, and imports its state.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, handoff::Handoff};
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let pending = Handoff::builder(&activated).join().await?;
    /// assert_eq!(pending.handoff().generation(), 0, "there is no old process");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - The predecessor does not let this process take over, or its state cannot be imported. The predecessor serves
    ///   on.
    /// - Another server of this process hands over already, see [`without_signals`](Self::without_signals).
    /// - The signal handlers cannot be installed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the predecessor learns that this process does not take over.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn join(self) -> Result<Pending, Error> {
        let Self { activated, options } = self;
        let finished = CancellationToken::new();
        // The drain is not known before `ready`.
        let stop = Stop::new(Drain::new(), finished.clone().cancelled_owned(), Signals::none());
        let is_notifying = Notifier::from_env().is_active();
        let mut coordinator = Coordinator::new(options, Handoff::new(), stop, &activated, is_notifying)?;
        let takeover = coordinator.join(&activated).await?;
        Ok(Pending { activated, coordinator, finished, takeover })
    }
}

impl Pending {
    /// The handle on handoffs, the same as [`Active::handoff`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, handoff::Handoff};
    ///
    /// let pending = Handoff::builder(&ActivatedListeners::from_env()?).join().await?;
    /// println!("generation {}", pending.handoff().generation());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn handoff(&self) -> Handoff {
        self.coordinator.handle()
    }

    /// Tells the predecessor that this process is able to accept, and returns when it may; at once where there is none.
    ///
    /// From then on this process is the one that is asked for handoffs, and `drain` starts when it has handed over. If
    /// `drain` starts before, as the service stops, a handoff that is under way is called off and no other begins.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, Drain, handoff::Handoff};
    ///
    /// let drain = Drain::new();
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let pending = Handoff::builder(&activated).join().await?;
    /// let active = pending.ready(&drain).await?;
    /// # active.finish().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The predecessor has called the handoff off, and serves on.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it tells the predecessor that this process does not take over.
    pub async fn ready(self, drain: &Drain) -> Result<Active, Error> {
        let Self { activated, mut coordinator, finished, takeover } = self;
        let takeover = match takeover {
            Some(takeover) => coordinator.take_over(takeover).await?,
            None => Takeover::Stopped,
        };
        let committed = CancellationToken::new();
        let service = ExternalService {
            activated,
            drain: drain.clone(),
            committed: committed.clone(),
            finished: finished.clone(),
            is_main_named: AtomicBool::new(false),
        };
        coordinator.start(&service, takeover).await;
        let (handle, claim) = (coordinator.handle(), coordinator.claim());
        Ok(Active { handle, committed, finished, running: tokio::spawn(coordinator.run(service)), claim })
    }

    /// Tells the predecessor that this process will not take over, and why. The reason is the error of the handoff
    /// there.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, handoff::Handoff};
    ///
    /// let pending = Handoff::builder(&ActivatedListeners::from_env()?).join().await?;
    /// pending.fail("the database has another schema");
    /// # Ok(())
    /// # }
    /// ```
    pub fn fail(self, reason: impl fmt::Display) {
        if let Some(takeover) = self.takeover {
            takeover.fail(&Kind::NotReady { reason: reason.to_string() }.into());
        }
    }
}

impl Active {
    /// The handle on handoffs: to start one, and to know when the predecessor is gone.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, Drain, handoff::Handoff};
    ///
    /// let active = Handoff::builder(&ActivatedListeners::from_env()?).join().await?.ready(&Drain::new()).await?;
    /// active.handoff().predecessor_gone().await; // at once, in the first process
    /// # active.finish().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn handoff(&self) -> Handoff {
        self.handle.clone()
    }

    /// A token that is cancelled when the successor serves. The drain starts then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, Drain, handoff::Handoff};
    ///
    /// let active = Handoff::builder(&ActivatedListeners::from_env()?).join().await?.ready(&Drain::new()).await?;
    /// let committed = active.committed();
    /// tokio::spawn(async move {
    ///     committed.cancelled().await;
    ///     println!("the next process serves, this one drains");
    /// });
    /// # active.finish().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn committed(&self) -> CancellationToken {
        self.committed.clone()
    }

    /// Ends the handoff of a process that serves no request any more: it exports the final state to the successor, if
    /// there is one, and returns when that has it, or after a few seconds.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use std::time::Duration;
    /// use axum_activation::{ActivatedListeners, Drain, handoff::Handoff};
    ///
    /// let drain = Drain::new();
    /// let active = Handoff::builder(&ActivatedListeners::from_env()?).join().await?.ready(&drain).await?;
    /// drain.finish(Duration::from_secs(30)).await; // no request is left
    /// active.finish().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped, the successor gets no final state: it takes this process for dead, and serves on.
    pub async fn finish(mut self) {
        self.finished.cancel();
        let _ = (&mut self.running).await;
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.running.abort();
        // The task is dropped later.
        self.claim.release();
    }
}

/// A service that another server serves. Its listeners stop when the drain starts, at the commit, and the program says when it has ended; it
/// does not serve again.
struct ExternalService {
    activated: ActivatedListeners,
    drain: Drain,
    committed: CancellationToken,
    finished: CancellationToken,
    /// Another process was named as the main one to systemd.
    is_main_named: AtomicBool,
}

impl Service for ExternalService {
    type Report = ();
    type OldServer = FinalStateOnly;
    type NewServer = FinalStateOnly;

    fn activated(&self) -> &ActivatedListeners {
        &self.activated
    }

    fn drain(&self) -> &Drain {
        &self.drain
    }

    fn old_server(&self) -> FinalStateOnly {
        FinalStateOnly(StateParts::default())
    }

    fn new_server(&self, final_states: &StateParts) -> FinalStateOnly {
        FinalStateOnly(final_states.clone())
    }

    async fn announce(&self, event: Event<'_>) {
        match event {
            Event::MainPid(pid) => {
                self.is_main_named.store(true, Ordering::Relaxed);
                set_main_pid(&Notifier::from_env(), pid, None).await;
            }
            Event::RolledBack(_) | Event::Stopped if self.is_main_named.swap(false, Ordering::Relaxed) => {
                take_back_main_pid();
            }
            _ => {}
        }
    }

    fn start_drain(&self, _: Option<&SenderHandle>) {
        self.drain.start_succession(false);
        self.committed.cancel();
    }

    fn leave_replaced(&self, replaced: &[ReplacedListener]) {
        self.activated.leave_replaced(replaced);
    }

    async fn drained(
        &self,
        _connections: Option<SenderHandle>,
        _replaced: &[ReplacedListener],
        _predecessor_gone: impl Future<Output = ()>,
        _abort: impl Future<Output = &'static str>,
    ) {
        self.finished.cancelled().await;
    }

    async fn end(self, (): (), _: impl Future<Output = &'static str>) {}

    async fn shut_down(self, _: bool, leave: impl Future<Output = ()>, _: impl Future<Output = &'static str>) {
        if !self.finished.is_cancelled() {
            self.drain.start();
            self.finished.cancelled().await;
        }
        // Until then it takes the final state.
        leave.await;
    }
}

/// A process that takes part in a handoff without connections that move.
struct FinalStateOnly(StateParts);

impl OldProcess for FinalStateOnly {
    fn resume(&mut self, _: IdleConnection, _: &ReturnReason) {}

    fn stop_moving(&mut self, _: &ReturnReason) {}
}

impl NewProcess for FinalStateOnly {
    fn admit(&mut self, _: &[IdleConnection]) -> Result<(), String> {
        Err("this process takes no connections: it is not served by Server".to_owned())
    }

    fn serve(&mut self, _: Vec<IdleConnection>) {}

    async fn take_final(&mut self, section: Section) -> Result<(), String> {
        self.0.import_final(section).await
    }
}
