//! The hand-over as a server has it: what it takes over, when it hands over, and what becomes of its connections.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::spawn_blocking, time::timeout};

mod plain;
mod roles;

use self::{
    plain::{go_on, try_plainly},
    roles::{Adopter, Old, adopt, take},
};
use super::{accept::Arrived, notify::Announcer, serving::Serving, signals::Signals};
use crate::{
    activation::ActivatedListeners,
    drain::DrainReport,
    error::Error,
    handoff::{
        attempt::{Line, ReadySuccessor, Way, attempt, failed},
        handle::Handoff,
        inbound::InboundHandle,
        joining::{Arriving, Coming, join},
        meeting::meet_predecessor,
        mover::{Farewell, Mover, MoverHandle, Parted},
        options::{Options, Snapshot},
        place::{FreshPlace, Place},
        plain::PlainReady,
        protocol::SectionKind,
        requests::{Asker, Request, Requests},
        state::Section,
    },
};

/// How long a successor may take to hear the last words.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// How long the place where processes meet may be held by another.
const PLACE_LIMIT: Duration = Duration::from_secs(5);

/// How a hand-over that was committed to came out.
#[derive(Debug)]
pub(super) enum Succeeded {
    /// The successor serves, and nothing is left here.
    Over(DrainReport),
    /// The successor has died, and this process serves again.
    Back(Serving),
}

/// What a server knows of the processes before and after it.
#[derive(Debug)]
pub(super) struct Succession {
    options: Options,
    handle: Handoff,
    requests: Requests,
    line: Line,
    predecessor: Option<InboundHandle>,
    fresh_place: Option<FreshPlace>,
}

impl Succession {
    pub(super) fn new(options: Options, handle: Handoff, requests: Requests) -> Self {
        Self { options, handle, requests, line: Line::default(), predecessor: None, fresh_place: None }
    }

    /// Asks the predecessor what it hands over, if there is one, and gives the service its state.
    pub(super) async fn join(&mut self, activated: &ActivatedListeners) -> Result<Option<Arriving>, Error> {
        self.meet(activated).await?;
        let Some(mut arriving) = join(activated).await? else { return Ok(None) };
        let hello = arriving.hello();
        self.line = Line { generation: hello.generation + 1, draining: hello.draining + 1 };
        self.handle.set_generation(self.line.generation);
        let initialised = match self.prepare_place(activated).await {
            Ok(()) => arriving.import(&self.options.states).await,
            Err(error) => Err(error),
        };
        match initialised {
            Ok(()) => Ok(Some(arriving)),
            Err(error) => {
                arriving.fail(&error);
                Err(error)
            }
        }
    }

    /// Goes to the place that the server itself was told of, where the set was not.
    async fn meet(&self, activated: &ActivatedListeners) -> Result<(), Error> {
        let Some(path) = self.options.socket.clone() else { return Ok(()) };
        let set = activated.clone();
        blocking(move || meet_predecessor(&set, &path)).await
    }

    /// Does what may fail of taking over the place where the predecessor is met.
    async fn prepare_place(&mut self, activated: &ActivatedListeners) -> Result<(), Error> {
        if let Some(path) = activated.handoff_path() {
            self.fresh_place = Some(blocking(move || Place::prepare(&path, Instant::now() + PLACE_LIMIT)).await?);
        }
        Ok(())
    }

    /// Lets this process be met from now on, in place of the predecessor.
    async fn open_place(&mut self, activated: &ActivatedListeners) -> Result<(), Error> {
        let place = match self.fresh_place.take() {
            Some(fresh) => Some(blocking(move || fresh.settle(Instant::now() + PLACE_LIMIT)).await?),
            None => activated.take_place().and_then(|place| place.downcast::<Place>().ok()).map(|place| *place),
        };
        let opened = place.map_or(Ok(()), |place| self.requests.open(place));
        opened.map_err(|error| failed(format!("nobody can be met: {error}")))
    }

    /// From now on this process serves, and is asked for hand-overs. What still comes from the predecessor goes to the routes.
    pub(super) async fn begin(&mut self, coming: Option<Coming>, serving: &Serving) -> Result<(), Error> {
        let activated = serving.activated();
        activated.set_passed_on(false);
        activated.close_unwanted(|name| serving.routes().iter().any(|route| &*route.name == name));
        match coming {
            Some((inbound, handle)) => {
                self.predecessor = Some(handle);
                let mut adopter = Adopter::new(serving, &self.options.final_states);
                let gone = self.handle.clone();
                tokio::spawn(async move {
                    let ended = inbound.run(&mut adopter).await;
                    tracing::info!(?ended, "the predecessor is gone");
                    gone.note_predecessor_gone();
                });
            }
            None => self.handle.note_predecessor_gone(),
        }
        if let Err(error) = self.open_place(serving.activated()).await {
            tracing::error!(%error, "the next process cannot meet this one");
        }
        if self.options.signals { self.requests.install_signals() } else { Ok(()) }
    }

    /// The next request for a hand-over.
    pub(super) async fn requested(&mut self) -> Request {
        self.requests.next().await
    }

    /// Tries to bring a successor to where it is ready; an error is told to whoever asked, and nothing has changed. `None` when `stopped`
    /// resolved meanwhile: the stop wins.
    pub(super) async fn prepare(
        &mut self,
        request: Request,
        serving: &Serving,
        announcer: &Announcer,
        stopped: impl Future<Output = ()>,
    ) -> Prepared {
        let Request { way, asker } = request;
        let is_spawned = matches!(way, Way::Spawn);
        tracing::info!(asker = %asker, "handing over");
        if is_spawned {
            announcer.handing_over(self.options.timeout);
        }
        let plain = self.options.plain.filter(|_| is_spawned);
        let line = Line { draining: self.draining(), ..self.line };
        let Self { options, requests, .. } = &mut *self;
        let tried = async {
            match plain {
                Some(ready) => try_plainly(options, ready, serving).await.map(Ready::Plain),
                None => attempt(options, serving.activated(), line, way).await.map(Ready::Full),
            }
        };
        let tried = tokio::select! {
            tried = tried => Some(tried),
            () = stopped => None,
            never = requests.refuse_all("another hand-over is under way") => match never {},
        };
        if plain.is_some() && !matches!(tried, Some(Ok(_))) {
            go_on(serving).await;
        }
        match tried {
            Some(Ok(successor)) => Prepared::Ready(successor, asker),
            Some(Err(error)) => {
                self.failed(&error, announcer, is_spawned);
                asker.tell(Err(error));
                Prepared::Failed
            }
            None => {
                asker.tell(Err(failed("this process was told to stop")));
                Prepared::Stopped
            }
        }
    }

    /// Hands over: there is no way back but the successor's death.
    pub(super) async fn commit(
        &mut self,
        successor: ReadySuccessor,
        asker: Asker,
        serving: Serving,
        announcer: &Announcer,
        ending: Ending<'_>,
    ) -> Succeeded {
        let (pid, is_started) = (successor.pid(), successor.is_started());
        if is_started {
            announcer.hand_to(pid).await;
        }
        serving.accept(false).await;
        let (mover, moves) = match successor.commit().await {
            Ok(moving) => moving,
            Err(error) => {
                serving.accept(true).await;
                self.failed(&error, announcer, is_started);
                asker.tell(Err(error));
                return Succeeded::Back(serving);
            }
        };
        tracing::info!(pid, "the successor accepts, moving what is here");
        asker.tell(Ok(pid));
        self.move_out(serving, mover, moves, ending).await
    }

    /// Lets go of what is here: the rest ends within the drain's limit.
    async fn move_out(
        &mut self,
        mut serving: Serving,
        mover: Mover,
        moves: MoverHandle,
        ending: Ending<'_>,
    ) -> Succeeded {
        let Ending { signals, limit } = ending;
        if let Some(predecessor) = &self.predecessor {
            predecessor.trim(self.options.draining.saturating_sub(1));
        }
        let drain = serving.current_drain().clone();
        let mut old = Old::new(&serving, &drain, self.predecessor.clone());
        let (returned, told_to_stop) = (Arc::clone(&old.returned), AtomicBool::new(false));
        serving.activated().set_passed_on(true);
        serving.lead_to(Some(&moves));
        drop(moves);
        drain.begin_succession(true);

        let outcome = {
            let cut_now = async {
                let signal = signals.first().await;
                tracing::info!(signal, "told to stop while handing over");
                told_to_stop.store(true, Ordering::Relaxed);
                signals.second().await
            };
            let mut left = pin!(serving.leave(limit, self.handle.predecessor_gone(), cut_now));
            let mut moving = pin!(mover.run(&mut old));
            tokio::select! {
                report = &mut left => {
                    serving.lead_to(None);
                    Outcome::Left(report, timeout(FAREWELL_LIMIT, moving).await.ok())
                }
                parted = &mut moving => match parted {
                    Parted::Died if !told_to_stop.load(Ordering::Relaxed) => Outcome::Died,
                    parted => {
                        tracing::warn!(?parted, "the successor takes no more connections, what is left ends here");
                        drain.stop_moving();
                        serving.lead_to(None);
                        take(&returned).into_iter().for_each(|connection| adopt(serving.routes(), connection, Arrived::to_stay));
                        Outcome::Left(left.await, None)
                    }
                },
                never = self.requests.refuse_all("this process has handed over") => match never {},
            }
        };
        match outcome {
            Outcome::Died => {
                tracing::error!("the successor has died, this process accepts again");
                serving.activated().set_passed_on(false);
                serving.renew(take(&returned));
                Succeeded::Back(serving)
            }
            Outcome::Left(report, parted) => {
                if let Some(Parted::Moved(farewell)) = parted {
                    self.say_farewell(farewell, &mut old).await;
                }
                self.leave_predecessor().await;
                Succeeded::Over(serving.end(report).await)
            }
        }
    }

    /// Gives the final state to the successor.
    async fn say_farewell(&self, farewell: Farewell, old: &mut Old) {
        let sections = match self.options.final_states.export().await {
            Ok(sections) => sections,
            Err(problem) => {
                tracing::error!(problem, "the final state is lost");
                Vec::new()
            }
        };
        let section = |(name, snapshot): (String, Snapshot)| Section {
            kind: SectionKind::Final,
            name,
            version: snapshot.version(),
            data: snapshot.bytes().clone(),
        };
        let said = farewell.finish(sections.into_iter().map(section).collect(), old);
        match timeout(FAREWELL_LIMIT, said).await {
            Ok(Ok(answers)) => {
                for answer in answers {
                    if let Some(error) = answer.error {
                        tracing::error!(name = answer.name, error, "the successor could not take the final state");
                    }
                }
            }
            Ok(Err(refusal)) => tracing::warn!(%refusal, "the successor has not heard the last words"),
            Err(_) => tracing::warn!("the successor does not listen to the last words"),
        }
    }

    /// Tells the predecessor, if it is still there, that this process stops: it must not take that for a crash.
    pub(super) async fn leave_predecessor(&self) {
        if let Some(predecessor) = self.predecessor.as_ref().filter(|_| !self.handle.is_predecessor_gone()) {
            let _ = timeout(FAREWELL_LIMIT, predecessor.leave()).await;
        }
    }

    fn draining(&self) -> u32 {
        if self.handle.is_predecessor_gone() { 0 } else { self.line.draining }
    }

    fn failed(&self, error: &Error, announcer: &Announcer, is_spawned: bool) {
        tracing::error!(%error, "the hand-over has failed");
        if is_spawned {
            announcer.rolled_back(&error.to_string());
        }
        if let Some(hook) = &self.options.after_failure {
            hook(error);
        }
    }
}

/// What became of a try.
#[derive(Debug)]
pub(super) enum Prepared {
    Ready(Ready, Asker),
    Failed,
    Stopped,
}

/// A successor that is ready.
#[derive(Debug)]
pub(super) enum Ready {
    Full(ReadySuccessor),
    Plain(PlainReady),
}

/// How what is left here ends.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) signals: &'a mut Signals,
    pub(super) limit: Duration,
}

enum Outcome {
    Died,
    Left(DrainReport, Option<Parted>),
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(failed(error.to_string())))
}
