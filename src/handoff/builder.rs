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
    future::pending,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    attempt::{Way, attempt, failed},
    claim::Claim,
    handle::Handoff,
    joining::Arriving,
    main_pid::{set_main_pid, take_back_main_pid},
    options::Options,
    requests::{Request, Requests},
    state_part::{Snapshot, StatePart, StateParts},
    ties::{FAREWELL_LIMIT, Joins, Ties, leave_predecessor, line, say_farewell, wait_for_room},
};
use crate::{
    activation::ActivatedListeners,
    drain::Drain,
    error::{Error, Kind},
    idle_connection::IdleConnection,
    log,
    notify::Notifier,
    wire::{reason::ReturnReason, receive::NewProcess, section::Section, send},
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
    ties: Ties,
    arriving: Option<Arriving>,
}

/// A process that serves, and hands over when it is asked to.
///
/// Dropped, it hands over no more, and a successor takes it for dead. So keep it until the service has ended, and then
/// call [`finish`](Self::finish).
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
        let (handle, calls) = Handoff::new();
        let mut ties = Ties::new(options, handle, Requests::new(calls));
        ties.decide_spawn(&activated, Notifier::from_env().is_active())?;
        ties.install_signals()?;
        let arriving = match ties.join(&activated, pending()).await? {
            Joins::After(arriving) => Some(arriving),
            Joins::Alone | Joins::Stopped => None,
        };
        Ok(Pending { activated, ties, arriving })
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
        self.ties.handle.clone()
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
        let Self { activated, mut ties, arriving } = self;
        let coming = match arriving {
            Some(arriving) => arriving.ready().await?,
            None => None,
        };
        let finals = Finals(ties.options.final_states.clone());
        ties.begin(coming, &activated, finals);
        ties.open_place(&activated).await;
        let (committed, handle) = (CancellationToken::new(), ties.handle.clone());
        let finished = CancellationToken::new();
        let claim = Arc::clone(&ties.spawner.claim);
        let alone = Alone { activated, ties, drain: drain.clone(), committed: committed.clone() };
        let running = tokio::spawn(alone.run(finished.clone()));
        Ok(Active { handle, committed, finished, running, claim })
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
        if let Some(arriving) = self.arriving {
            arriving.fail(&Kind::NotReady { reason: reason.to_string() }.into());
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

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Active").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// The task that is asked for handoffs.
struct Alone {
    activated: ActivatedListeners,
    ties: Ties,
    drain: Drain,
    committed: CancellationToken,
}

impl Alone {
    async fn run(mut self, finished: CancellationToken) {
        loop {
            let request = tokio::select! {
                biased;
                () = finished.cancelled() => break,
                () = self.drain.started() => {
                    finished.cancelled().await;
                    break;
                }
                request = self.ties.requests.next() => request,
            };
            if let Some((mover, handle)) = self.hand_over(request, &finished).await {
                self.leave(mover, handle, &finished).await;
                self.ties.requests.yield_place().await;
                break;
            }
        }
        leave_predecessor(&self.ties.handle, self.ties.predecessor.as_ref()).await;
    }

    /// Brings a successor to where it serves; `None` where there is none. A stop of this process wins.
    async fn hand_over(
        &mut self,
        request: Request,
        finished: &CancellationToken,
    ) -> Option<(send::ConnectionSender, send::SenderHandle)> {
        let Request { way, asker } = request;
        log::info!(asker = %asker, "handing over");
        let Ties { options, requests, handle, spawner, .. } = &mut self.ties;
        let is_main_named = AtomicBool::new(false);
        let tried = async {
            if matches!(way, Way::Spawn) {
                spawner.check()?;
            }
            let way = wait_for_room(options, handle, way).await?;
            let successor = attempt(options, &self.activated, line(handle), way).await?;
            let pid = successor.pid();
            if successor.is_started() {
                is_main_named.store(true, Ordering::Relaxed);
                set_main_pid(pid).await;
            }
            let moved = successor.moved();
            successor.commit().await.map(|(mover, moves, _)| (pid, mover, moves, moved))
        };
        let tried = tokio::select! {
            biased;
            tried = tried => tried,
            () = self.drain.started() => Err(failed("this process was told to stop")),
            () = finished.cancelled() => Err(failed("this process was told to stop")),
            never = requests.refuse_all("another handoff is under way") => match never {},
        };
        match tried {
            Ok((pid, mover, moves, moved)) => {
                log::info!(pid, "the successor accepts, draining what is here");
                asker.tell(Ok(pid));
                self.ties.note_handed_over(&self.activated);
                self.activated.leave_moved(&moved);
                Some((mover, moves))
            }
            Err(error) => {
                log::error!(%error, "the handoff has failed");
                if is_main_named.into_inner() {
                    take_back_main_pid();
                }
                self.ties.options.run_after_failure(&error);
                asker.tell(Err(error));
                None
            }
        }
    }

    /// Lets the service drain, and says the last words when it has.
    async fn leave(&mut self, mover: send::ConnectionSender, handle: send::SenderHandle, finished: &CancellationToken) {
        self.drain.begin_succession(false);
        self.committed.cancel();
        let Ties { options, requests, .. } = &mut self.ties;
        let leaving = async {
            let parted = {
                let mut old = Old;
                let mut moving = std::pin::pin!(mover.run(&mut old));
                tokio::select! {
                    parted = &mut moving => Some(parted),
                    () = finished.cancelled() => {
                        drop(handle);
                        tokio::time::timeout(FAREWELL_LIMIT, moving).await.ok()
                    }
                }
            };
            match parted {
                Some(send::TransferOutcome::Moved(farewell)) => say_farewell(options, farewell).await,
                Some(parted) => log::warn!(?parted, "the successor does not hear the last words"),
                None => log::warn!("the successor does not listen to the last words"),
            }
        };
        tokio::select! {
            () = leaving => {}
            never = requests.refer_all() => match never {},
        }
    }
}

/// A predecessor that moves no connections.
struct Old;

impl send::OldProcess for Old {
    fn resume(&mut self, _: IdleConnection, _: &ReturnReason) {}

    fn stop_moving(&mut self, _: &ReturnReason) {}
}

/// A successor that takes no connections: the predecessor drains them.
struct Finals(StateParts);

impl NewProcess for Finals {
    fn admit(&mut self, _: &[IdleConnection]) -> Result<(), String> {
        Err("this process takes no connections: it is not served by Server".to_owned())
    }

    fn serve(&mut self, _: Vec<IdleConnection>) {}

    async fn take_final(&mut self, section: Section) -> Result<(), String> {
        let Section { name, version, data, .. } = section;
        self.0.import(&name, Snapshot::new(version, data)).await
    }
}
