//! The hand-over as a server has it: what it takes over, when it hands over, and what becomes of its connections.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

mod plain;
mod roles;

use self::{
    plain::{go_on, try_plainly},
    roles::{Adopter, Old, take},
};
use super::{
    accept::Arrived,
    notify::Announcer,
    serving::{Serving, adopt},
    signals::Signals,
};
use crate::{
    activation::ActivatedListeners,
    drain::DrainReport,
    error::Error,
    handoff::{
        attempt::{ReadySuccessor, Way, attempt, failed},
        connection::IdleConnection,
        handle::Handoff,
        joining::{Arriving, Coming},
        mover::{Mover, MoverHandle, Parted},
        options::Options,
        plain::PlainReady,
        requests::{Asker, Request, Requests},
        ties::{FAREWELL_LIMIT, Ties, settled_line},
    },
    log,
    sys::process::Process,
};

/// How long a process may take to end that has closed all its files: one that lives serves, and must not be served beside.
const DEATH_LIMIT: Duration = Duration::from_secs(1);

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
    ties: Ties,
}

impl Succession {
    pub(super) fn new(options: Options, handle: Handoff, requests: Requests) -> Self {
        Self { ties: Ties::new(options, handle, requests) }
    }

    /// Decides whether this process may start the next one; `speaks` says that it tells systemd of the new main process.
    pub(super) fn decide_spawn(&mut self, activated: &ActivatedListeners, speaks: bool) -> Result<(), Error> {
        self.ties.decide_spawn(activated, speaks)
    }

    /// SIGHUP and SIGUSR2 ask for a hand-over as soon as this process serves; before that they do not end it.
    pub(super) fn install_signals(&mut self) -> Result<(), Error> {
        self.ties.install_signals()
    }

    /// Asks the predecessor what it hands over, if there is one, and gives the service its state.
    pub(super) async fn join(&mut self, activated: &ActivatedListeners) -> Result<Option<Arriving>, Error> {
        self.ties.join(activated).await
    }

    /// From now on this process serves, and is asked for hand-overs. What still comes from the predecessor goes to the routes.
    /// Closes the sockets without a route that the predecessor had bound, unless `allow_unused`: another server of this process may serve
    /// them.
    pub(super) async fn begin(&mut self, coming: Option<Coming>, serving: &Serving, allow_unused: bool) {
        let activated = serving.activated();
        let adopter = Adopter::new(serving, &self.ties.options.final_states);
        self.ties.begin(coming, activated, adopter).await;
        if !allow_unused {
            activated.close_unwanted(|name| serving.routes().iter().any(|route| &*route.name == name));
        }
    }

    /// Whether a SIGHUP came while a hand-over was under way that has failed.
    pub(super) fn take_refused_hangup(&mut self) -> bool {
        self.ties.requests.take_refused_hangup()
    }

    /// The next request for a hand-over.
    pub(super) async fn requested(&mut self) -> Request {
        self.ties.requests.next().await
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
        log::info!(asker = %asker, "handing over");
        if is_spawned {
            announcer.handing_over(self.ties.options.timeout);
        }
        let plain = self.ties.options.plain.filter(|_| is_spawned);
        let Ties { options, requests, handle, line, spawner, .. } = &mut self.ties;
        let tried = async {
            if is_spawned {
                spawner.check()?;
            }
            match plain {
                Some(ready) => try_plainly(options, ready, serving).await.map(Ready::Plain),
                None => {
                    let line = settled_line(options, handle, *line).await;
                    attempt(options, serving.activated(), line, way).await.map(Ready::Full)
                }
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
        let (mover, moves, process) = match successor.commit().await {
            Ok(moving) => moving,
            Err(error) => {
                serving.accept(true).await;
                self.failed(&error, announcer, is_started);
                asker.tell(Err(error));
                return Succeeded::Back(serving);
            }
        };
        log::info!(pid, "the successor accepts, moving what is here");
        asker.tell(Ok(pid));
        self.move_out(serving, (mover, moves), process, ending).await
    }

    /// Lets go of what is here: the rest ends within the drain's limit.
    async fn move_out(
        &mut self,
        mut serving: Serving,
        (mover, moves): (Mover, MoverHandle),
        process: Option<Process>,
        ending: Ending<'_>,
    ) -> Succeeded {
        let Ending { signals, is_managed, limit } = ending;
        if let Some(predecessor) = &self.ties.predecessor {
            predecessor.trim(self.ties.options.draining.saturating_sub(1));
        }
        let drain = serving.current_drain().clone();
        let mut old = Old::new(&serving, &drain, self.ties.predecessor.clone());
        let (returned, told_to_stop) = (Arc::clone(&old.returned), AtomicBool::new(false));
        self.ties.note_handed_over(serving.activated());
        serving.lead_to(Some(&moves));
        drop(moves);
        drain.begin_succession(true);

        let outcome = {
            let cut_now = async {
                let signal = signals.first().await;
                log::info!(signal, "told to stop while handing over");
                told_to_stop.store(true, Ordering::Relaxed);
                signals.second_of_old(is_managed).await
            };
            let mut left = pin!(serving.leave(limit, self.ties.handle.predecessor_gone(), cut_now));
            let mut moving = pin!(mover.run(&mut old));
            tokio::select! {
                report = &mut left => {
                    serving.lead_to(None);
                    Outcome::Left(report, timeout(FAREWELL_LIMIT, moving).await.ok())
                }
                parted = &mut moving => {
                    let may_be_dead = matches!(parted, Parted::Died) && !told_to_stop.load(Ordering::Relaxed);
                    if may_be_dead && is_dead(process.as_ref()).await {
                        Outcome::Died
                    } else {
                        log::warn!(?parted, "the successor takes no more connections, what is left ends here");
                        end_here(&serving, &returned);
                        Outcome::Left(left.await, None)
                    }
                },
                never = self.ties.requests.refer_all() => match never {},
            }
        };
        match outcome {
            Outcome::Died => {
                log::error!("the successor has died, this process accepts again");
                serving.activated().set_passed_on(false);
                serving.lead_to(None);
                serving.renew(take(&returned));
                self.ties.take_place_again(serving.activated()).await;
                Succeeded::Back(serving)
            }
            Outcome::Left(report, parted) => {
                if let Some(Parted::Moved(farewell)) = parted {
                    self.ties.say_farewell(farewell, &mut old).await;
                }
                self.ties.leave_predecessor().await;
                let report = serving.end(report).await;
                self.ties.requests.yield_place().await;
                Succeeded::Over(report)
            }
        }
    }

    /// Tells the predecessor, if it is still there, that this process stops: it must not take that for a crash.
    pub(super) async fn leave_predecessor(&self) {
        self.ties.leave_predecessor().await;
    }

    fn failed(&self, error: &Error, announcer: &Announcer, is_spawned: bool) {
        log::error!(%error, "the hand-over has failed");
        if is_spawned {
            announcer.rolled_back(&error.to_string());
        }
        self.ties.options.run_after_failure(error);
    }
}

/// Whether a successor that says nothing more has ended; where this process has not started it, its silence says so.
async fn is_dead(process: Option<&Process>) -> bool {
    match process {
        Some(process) => timeout(DEATH_LIMIT, process.ended()).await.is_ok(),
        None => true,
    }
}

/// Connections stay from now on, and so do those that have come back.
fn end_here(serving: &Serving, returned: &Mutex<Vec<IdleConnection>>) {
    serving.current_drain().stop_moving();
    serving.lead_to(None);
    take(returned).into_iter().for_each(|connection| adopt(serving.routes(), connection, Arrived::to_stay));
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
    /// A service manager may send signals, too.
    pub(super) is_managed: bool,
    pub(super) limit: Duration,
}

enum Outcome {
    Died,
    Left(DrainReport, Option<Parted>),
}
