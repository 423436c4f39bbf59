//! What a process knows of the one before it and the one after it, whatever it serves with.

use std::{
    future::{Future, pending},
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{
    attempt::{Line, Way, failed},
    claim::Claim,
    handle::Handoff,
    joining::{Arriving, Coming, call_off, join},
    options::Options,
    requests::Requests,
    spawn_policy::SpawnPolicy,
    state_part::Snapshot,
};
use crate::{
    activation::{ActivatedListeners, StartContext, held_off},
    blocking::on_thread_or_here,
    error::{Error, Kind},
    log,
    sys::signals,
    wire::{
        protocol::SectionKind,
        receive::{NewProcess, ReceiverHandle},
        section::Section,
        send::FinalStatePhase,
        socket_path::{BoundSocketPath, StagedSocketPath},
    },
};

/// How long a successor may take to hear the last words.
pub(crate) const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// How much longer than the wait itself its outcome may take to arrive.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long the place where processes meet may be held by another.
const PLACE_LIMIT: Duration = Duration::from_secs(5);

const ANOTHER: &str = "another server of this process hands it over; ask for it there (Server::handoff)";

/// The ties of a process to its predecessor and to whoever asks for a successor.
#[derive(Debug)]
pub(crate) struct Ties {
    pub(crate) options: Options,
    pub(crate) handle: Handoff,
    pub(crate) requests: Requests,
    pub(crate) predecessor: Option<ReceiverHandle>,
    pub(crate) spawner: Spawner,
    fresh_place: Option<StagedSocketPath>,
}

/// Whether a server may start the next process.
#[derive(Debug)]
pub(crate) struct Spawner {
    /// `None` until the server starts.
    policy: Option<SpawnPolicy>,
    pub(crate) claim: Arc<Claim>,
}

impl Spawner {
    /// An error where it may not. A server without signals that may has the right of the process from then on.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.policy.as_ref().map_or(Ok(()), SpawnPolicy::check)?;
        if self.claim.take() { Ok(()) } else { Err(failed(ANOTHER)) }
    }
}

impl Ties {
    pub(crate) fn new(options: Options, handle: Handoff, requests: Requests) -> Self {
        let spawner = Spawner { policy: None, claim: Arc::new(Claim::new()) };
        Self { options, handle, requests, predecessor: None, spawner, fresh_place: None }
    }

    /// Decides whether this process may start the next one; `speaks` says that it tells systemd of the new main process. With signals
    /// this server is then the only one of the process that hands over.
    ///
    /// # Errors
    ///
    /// Another server of this process hands over at the same signals.
    pub(crate) fn decide_spawn(&mut self, activated: &ActivatedListeners, speaks: bool) -> Result<(), Error> {
        if self.options.signals && !self.spawner.claim.take() {
            return Err(Kind::TwoCoordinators.into());
        }
        let policy = SpawnPolicy::decide(self.options.by_spawn, activated, speaks);
        // A process of `Accept=yes` has one connection, and nothing to hand over.
        if activated.one_connection().is_none() {
            policy.log(self.options.signals && self.options.by_spawn.is_none());
        }
        self.spawner.policy = Some(policy);
        Ok(())
    }

    /// SIGHUP and SIGUSR2 ask for a handoff as soon as this process serves. Before that they must not end it: who sends one
    /// knows of the commit, or of MAINPID, earlier than this process.
    pub(crate) fn install_signals(&mut self) -> Result<(), Error> {
        if self.options.signals { self.requests.install_signals() } else { Ok(()) }
    }

    /// Asks the predecessor what it hands over, if there is one, and gives the service its state; `stopped` ends that at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the predecessor learns that this process does not take over.
    pub(crate) async fn join(
        &mut self,
        activated: &ActivatedListeners,
        stopped: impl Future<Output = ()>,
    ) -> Result<Joins, Error> {
        if self.options.directory.is_none() {
            StartContext::of_this_process().note_releases();
        }
        let mut stopped = pin!(stopped);
        let joined = tokio::select! {
            biased;
            joined = join(activated) => joined?,
            () = &mut stopped => {
                call_off(activated);
                return Ok(Joins::Stopped);
            }
        };
        let Some(mut arriving) = joined else { return Ok(Joins::Alone) };
        let hello = arriving.hello();
        self.handle.set_generation(hello.generation.saturating_add(1));
        self.handle.older_sender().send_replace(hello.draining.saturating_add(1));
        let initialise = async {
            self.prepare_place(activated).await?;
            arriving.import(&self.options.states).await
        };
        let initialised = tokio::select! {
            biased;
            initialised = initialise => Some(initialised),
            () = stopped => None,
        };
        match initialised {
            Some(Ok(())) => Ok(Joins::After(arriving)),
            Some(Err(error)) => {
                arriving.fail(&error);
                Err(error)
            }
            None => {
                arriving.leave();
                Ok(Joins::Stopped)
            }
        }
    }

    /// Does what may fail of taking over the place where the predecessor is met.
    async fn prepare_place(&mut self, activated: &ActivatedListeners) -> Result<(), Error> {
        if let Some(path) = activated.handoff_path() {
            let peers = activated.handoff_peers();
            let prepare = move || BoundSocketPath::stage(&path, &peers, Instant::now() + PLACE_LIMIT);
            self.fresh_place = Some(flat(on_thread_or_here(prepare).await)?);
        }
        Ok(())
    }

    /// A successor has the sockets, serves in place of this process, and is to be met there, too.
    pub(crate) fn note_handed_over(&mut self, activated: &ActivatedListeners) {
        activated.set_passed_on(true);
        self.requests.note_handed_over();
    }

    /// Lets this process be met again, as its successor has died.
    pub(crate) async fn take_place_again(&mut self, activated: &ActivatedListeners) {
        if self.requests.note_serving_again() || activated.handoff_path().is_none() {
            return;
        }
        let taken = async {
            self.prepare_place(activated).await?;
            self.try_to_open_place(activated).await
        };
        if let Err(error) = taken.await {
            log::error!(%error, "the next process cannot meet this one");
        }
    }

    /// Lets this process be met from now on, in place of the predecessor.
    ///
    /// # Cancel safety
    ///
    /// Dropped, this process is not met.
    pub(crate) async fn open_place(&mut self, activated: &ActivatedListeners) {
        if let Err(error) = self.try_to_open_place(activated).await {
            log::error!(%error, "the next process cannot meet this one");
        }
    }

    async fn try_to_open_place(&mut self, activated: &ActivatedListeners) -> Result<(), Error> {
        let place = match self.fresh_place.take() {
            Some(fresh) => {
                Some(flat(on_thread_or_here(move || fresh.rename_into_place(Instant::now() + PLACE_LIMIT)).await)?)
            }
            None => activated.take_bound_path(),
        };
        let peers = activated.handoff_peers();
        let opened = place.map_or(Ok(()), |place| self.requests.open(place, peers));
        opened.map_err(|error| failed(format!("nobody can be met: {error}")))
    }

    /// From now on this process serves. What still comes from the predecessor goes to `successor`.
    pub(crate) fn begin(
        &mut self,
        coming: Option<Coming>,
        activated: &ActivatedListeners,
        mut successor: impl NewProcess + Send + 'static,
    ) {
        // Those that the program leaves without a handler end it from now on, as they would have ended the first process.
        signals::let_through(&held_off());
        activated.set_passed_on(false);
        match coming {
            Some((inbound, handle)) => {
                self.predecessor = Some(handle);
                let gone = self.handle.clone();
                tokio::spawn(async move {
                    let ended = inbound.showing_older(gone.older_sender()).run(&mut successor).await;
                    log::info!(?ended, "the predecessor is gone");
                    gone.note_predecessor_gone();
                });
            }
            None => self.handle.note_predecessor_gone(),
        }
    }
}

/// What a process finds that joins.
#[derive(Debug)]
pub(crate) enum Joins {
    /// No predecessor.
    Alone,
    /// A predecessor that waits until this process is ready.
    After(Arriving),
    /// It was stopped before.
    Stopped,
}

/// Gives the final state to the successor.
///
/// # Cancel safety
///
/// Dropped, the successor takes this process for dead.
pub(crate) async fn say_farewell(options: &Options, farewell: FinalStatePhase) {
    let limit = options.timeout;
    let exported = timeout(limit, options.final_states.export()).await;
    let exported = exported.unwrap_or_else(|_| Err(format!("it was not exported within {limit:?} (handoff_timeout)")));
    let sections = match exported {
        Ok(sections) => sections,
        Err(problem) => {
            log::error!(problem, "the final state is lost");
            Vec::new()
        }
    };
    let section = |(name, snapshot): (String, Snapshot)| Section {
        kind: SectionKind::Final,
        name,
        version: snapshot.version(),
        data: snapshot.bytes().clone(),
    };
    let said = farewell.finish(sections.into_iter().map(section).collect());
    match timeout(FAREWELL_LIMIT, said).await {
        Ok(Ok(answers)) => {
            for answer in answers {
                if let Some(error) = answer.error {
                    log::error!(name = answer.name, error, "the successor could not take the final state");
                }
            }
        }
        Ok(Err(refusal)) => log::warn!(%refusal, "the successor has not heard the last words"),
        Err(_) => log::warn!("the successor does not listen to the last words"),
    }
}

/// Tells the predecessor, if it is still there, that this process stops: it must not take that for a crash.
///
/// # Cancel safety
///
/// Dropped, the predecessor may take it for a crash.
pub(crate) async fn leave_predecessor(handle: &Handoff, predecessor: Option<&ReceiverHandle>) {
    if let Some(predecessor) = predecessor.filter(|_| !handle.is_predecessor_gone()) {
        let _ = timeout(FAREWELL_LIMIT, predecessor.leave()).await;
    }
}

/// Where this process stands, as a successor is told.
pub(crate) fn line(handle: &Handoff) -> Line {
    Line { generation: handle.generation(), older: handle.older() }
}

/// Whether there may be one more generation that drains.
pub(crate) fn has_room(options: &Options, handle: &Handoff) -> bool {
    *handle.older().borrow() < options.draining.max(1)
}

/// Waits until there may be one more generation that drains, before anything is done for the handoff that `way` is for.
///
/// # Errors
///
/// As many as may still drain after `handoff_timeout`, or the process that comes by `way` does not wait so long.
///
/// # Cancel safety
///
/// It only waits.
pub(crate) async fn wait_for_room(options: &Options, handle: &Handoff, way: Way) -> Result<Way, Error> {
    match wait(options, handle, &way).await {
        Ok(()) => Ok(way),
        Err(error) => {
            if let Way::Applicant(joiner) = way {
                joiner.refuse(&error.to_string());
            }
            Err(error)
        }
    }
}

async fn wait(options: &Options, handle: &Handoff, way: &Way) -> Result<(), Error> {
    let (most, limit, mut older) = (options.draining.max(1), options.timeout, handle.older());
    if has_room(options, handle) {
        return Ok(());
    }
    log::info!(older = *older.borrow(), most, "as many generations drain as may, waiting until one has ended");
    let gives_up = async {
        match way {
            // It learns why it is refused.
            Way::Applicant(joiner) => joiner.wait(limit + ANSWER_LIMIT).await,
            Way::Spawn => pending().await,
        }
    };
    let has_room = async { older.wait_for(|older| *older < most).await.map(drop) };
    tokio::select! {
        waited = timeout(limit, has_room) => {
            if waited.is_ok() {
                return Ok(());
            }
        }
        refusal = gives_up => return Err(failed(format!("the new process has not waited: {refusal}"))),
    }
    let older = *handle.older().borrow();
    let generations =
        if older == 1 { "1 older generation still drains" } else { &format!("{older} older generations still drain") };
    Err(failed(format!(
        "{generations} after {limit:?} (handoff_timeout), and no more than {most} may (max_draining); try again when one has \
         ended, or lower drain_timeout"
    )))
}

fn flat<T>(done: io::Result<Result<T, Error>>) -> Result<T, Error> {
    done.unwrap_or_else(|error| Err(failed(error.to_string())))
}
