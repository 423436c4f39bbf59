//! The handoff as a server has it: what it takes over, when it hands over, and what becomes of its connections.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::timeout;

mod plain;
mod roles;

use self::{
    plain::hand_over_plainly,
    roles::{Adopter, Old, take},
};
use super::{
    fd_store::FdStoreTask,
    notify::Announcer,
    routes::{Paused, Routes, finish},
    signals::{Heard, Signals},
};
use crate::{
    activation::ActivatedListeners,
    drain::DrainReport,
    error::Error,
    handoff::{
        attempt::{Way, attempt, failed},
        handle::Handoff,
        joining::Coming,
        options::Options,
        requests::{Request, Requests},
        ties::{FAREWELL_LIMIT, Joins, Ties, has_room, leave_predecessor, line, say_farewell, wait_for_room},
    },
    idle_connection::IdleConnection,
    log,
    sys::process::Process,
    wire::{
        moved::MovedListener,
        send::{ConnectionSender, SenderHandle, TransferOutcome},
    },
};

/// How long a process may take to end that has closed all its files: one that lives serves, and must not be served beside.
const DEATH_LIMIT: Duration = Duration::from_secs(1);

/// How a handoff that was committed to came out.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum Succeeded {
    /// The successor serves, and nothing is left here.
    Over(DrainReport),
    /// The successor has died, and this process serves again.
    Back(Routes),
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

    /// SIGHUP and SIGUSR2 ask for a handoff as soon as this process serves; before that they do not end it.
    pub(super) fn install_signals(&mut self) -> Result<(), Error> {
        self.ties.install_signals()
    }

    /// Asks the predecessor what it hands over, if there is one, and gives the service its state; `stopped` ends that at once.
    pub(super) async fn join(
        &mut self,
        activated: &ActivatedListeners,
        stopped: impl Future<Output = ()>,
    ) -> Result<Joins, Error> {
        self.ties.join(activated, stopped).await
    }

    /// From now on this process serves. What still comes from the predecessor goes to the routes. Closes the sockets without a route that
    /// the predecessor had bound, unless `allow_unserved`: another server of this process may serve them.
    pub(super) fn begin(&mut self, coming: Option<Coming>, serving: &Routes, allow_unserved: bool) {
        let activated = serving.activated();
        let adopter = Adopter::new(serving, &self.ties.options.final_states);
        self.ties.begin(coming, activated, adopter);
        if !allow_unserved {
            activated.close_unwanted(|name| serving.handles().iter().any(|route| &*route.name == name));
        }
    }

    /// Whether a SIGHUP came while a handoff was under way that has failed.
    pub(super) fn take_refused_hangup(&mut self) -> bool {
        self.ties.requests.take_refused_hangup()
    }

    /// Lets the next process meet this one.
    pub(super) async fn open_place(&mut self, serving: &Routes) {
        self.ties.open_place(serving.activated()).await;
    }

    /// The next request for a handoff.
    pub(super) async fn requested(&mut self) -> Request {
        self.ties.requests.next().await
    }

    /// Brings a successor to where it serves. After an error, which is told to whoever asked, and when `stopped` resolves before,
    /// nothing has changed: there is no successor, and this process accepts.
    ///
    /// Every wait of it ends when `stopped` resolves. What it has until then is undone as it is dropped.
    pub(super) async fn hand_over(
        &mut self,
        request: Request,
        serving: &Routes,
        fd_store: &mut FdStoreTask,
        announcer: &Announcer,
        stopped: impl Future<Output = ()>,
    ) -> HandedOver {
        let Request { way, asker } = request;
        let is_spawned = matches!(way, Way::Spawn);
        log::info!(asker = %asker, "handing over");
        let Ties { options, requests, handle, spawner, .. } = &mut self.ties;
        let (options, handle) = (&*options, &*handle);
        if is_spawned {
            let waits = if has_room(options, handle) { Duration::ZERO } else { options.timeout };
            announcer.handing_over(options.timeout.saturating_add(waits));
        }
        let plain = options.plain.filter(|_| is_spawned);
        let tried = async {
            if is_spawned {
                spawner.check()?;
            }
            fd_store.taken().await;
            let way = wait_for_room(options, handle, way).await?;
            match plain {
                Some(ready) => hand_over_plainly(options, ready, serving).await.map(HandedOver::Plainly),
                None => hand_over_in_full(options, handle, way, serving, announcer).await.map(HandedOver::Moving),
            }
        };
        let tried = tokio::select! {
            biased;
            tried = tried => Some(tried),
            () = stopped => None,
            never = requests.refuse_all("another handoff is under way") => match never {},
        };
        match tried {
            Some(Ok(handed)) => {
                asker.tell(Ok(handed.pid()));
                handed
            }
            Some(Err(error)) => {
                log::error!(%error, "the handoff has failed");
                if is_spawned {
                    announcer.rolled_back(&error.to_string());
                }
                options.run_after_failure(&error);
                asker.tell(Err(error));
                HandedOver::Failed
            }
            None => {
                announcer.take_back();
                asker.tell(Err(failed("this process was told to stop")));
                HandedOver::Stopped
            }
        }
    }

    /// Lets go of what is here: the rest ends within the drain's limit. There is no way back but the successor's death.
    pub(super) async fn move_out(&mut self, mut serving: Routes, moving: Moving, ending: Ending<'_>) -> Succeeded {
        let (Ending { signals, is_managed, limit }, Moving { mover, moves, process, pid, moved }) = (ending, moving);
        log::info!(pid, "the successor accepts, moving what is here");
        self.ties.note_handed_over(serving.activated());
        let Ties { options, requests, handle, predecessor, .. } = &mut self.ties;
        let drain = serving.current_drain().clone();
        let mut old = Old::new(&serving);
        let (returned, heard) = (Arc::clone(&old.returned), Heard::default());
        serving.redirect_to(Some(&moves));
        drop(moves);
        drain.begin_succession(true);

        let leaving = async {
            let outcome = {
                let before = async {
                    serving.close_moved(&moved).await;
                    handle.predecessor_gone().await;
                };
                let mut left = pin!(serving.leave(limit, before, heard.aborted()));
                let mut moving = pin!(mover.run(&mut old));
                tokio::select! {
                    report = &mut left => {
                        serving.redirect_to(None);
                        let parted = unless_aborted(&heard, timeout(FAREWELL_LIMIT, moving)).await;
                        Outcome::Left(report, parted.and_then(Result::ok))
                    }
                    parted = &mut moving => {
                        if matches!(parted, TransferOutcome::Died) && is_dead(process.as_ref(), &heard).await {
                            Outcome::Died
                        } else {
                            log::warn!(?parted, "the successor takes no more connections, what is left ends here");
                            end_here(&serving, &returned);
                            Outcome::Left(left.await, None)
                        }
                    }
                }
            };
            let Outcome::Left(report, parted) = outcome else {
                log::error!("the successor has died, this process accepts again");
                for moved in &moved {
                    log::error!(
                        name = moved.name,
                        address = moved.address,
                        "this address was closed for the successor's"
                    );
                }
                serving.activated().set_passed_on(false);
                serving.redirect_to(None);
                serving.renew(take(&returned));
                return Succeeded::Back(serving);
            };
            if let Some(TransferOutcome::Moved(farewell)) = parted {
                unless_aborted(&heard, say_farewell(options, farewell)).await;
            }
            unless_aborted(&heard, leave_predecessor(handle, predecessor.as_ref())).await;
            Succeeded::Over(serving.end(report, limit, heard.aborted()).await)
        };
        let mut watching = pin!(signals.watch_old(is_managed, &heard));
        let succeeded = tokio::select! {
            succeeded = leaving => succeeded,
            never = &mut watching => match never {},
            never = requests.refer_all() => match never {},
        };
        if matches!(succeeded, Succeeded::Over(_)) {
            tokio::select! {
                _ = unless_aborted(&heard, requests.yield_place()) => {}
                never = &mut watching => match never {},
            }
        }
        succeeded
    }

    /// Lets this process be met again, as its successor has died.
    pub(super) async fn take_place_again(&mut self, serving: &Routes) {
        self.ties.take_place_again(serving.activated()).await;
    }

    /// Ends this process by `drained`, and meanwhile tells the predecessor, if it is still there: it must not take that for a crash.
    pub(super) async fn leave_while<T>(&self, drained: impl Future<Output = T>, heard: &Heard) -> T {
        let left = leave_predecessor(&self.ties.handle, self.ties.predecessor.as_ref());
        tokio::join!(drained, unless_aborted(heard, left)).0
    }
}

/// Brings a successor of this crate to where it serves.
///
/// # Cancel safety
///
/// Dropped, the successor is sent away, and this process accepts again.
async fn hand_over_in_full(
    options: &Options,
    handle: &Handoff,
    way: Way,
    serving: &Routes,
    announcer: &Announcer,
) -> Result<Moving, Error> {
    let successor = attempt(options, serving.activated(), line(handle), way).await?;
    let pid = successor.pid();
    log::debug!(pid, "the successor is ready, this process stops accepting");
    let paused = pause(options, serving).await?;
    // As late as can be: where systemd knows the new main process and that ends, it ends this one.
    if successor.is_started() {
        announcer.set_main_pid(pid).await;
    }
    let moved = successor.moved();
    let (mover, moves, process) = successor.commit().await?;
    paused.hold();
    Ok(Moving { mover, moves, process, pid, moved })
}

/// Stops accepting; an error says which route does not.
async fn pause<'a>(options: &Options, serving: &'a Routes) -> Result<Paused<'a>, Error> {
    let limit = options.timeout;
    serving.pause(limit).await.map_err(|name| {
        failed(format!(
            "the route {name:?} has not stopped accepting within {limit:?} (handoff_timeout), as its make-service does not answer"
        ))
    })
}

/// Does that, unless a signal asks to abort what is left.
async fn unless_aborted<T>(heard: &Heard, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        signal = heard.aborted() => {
            log::warn!(signal, "not waiting for the other processes any more");
            None
        }
    }
}

/// Whether a successor that says nothing more has ended; where the kernel does not show its process, its silence says so. A stop of this
/// process wins.
async fn is_dead(process: Option<&Process>, heard: &Heard) -> bool {
    let ended = async {
        match process {
            Some(process) => timeout(DEATH_LIMIT, process.ended()).await.is_ok(),
            None => true,
        }
    };
    tokio::select! {
        biased;
        () = heard.stopped() => false,
        is_dead = ended => is_dead && !heard.is_stopped(),
    }
}

/// Connections stay from now on, and so do those that have come back.
fn end_here(serving: &Routes, returned: &Mutex<Vec<IdleConnection>>) {
    serving.current_drain().stop_moving();
    serving.redirect_to(None);
    take(returned).into_iter().for_each(|connection| finish(serving.handles(), connection));
}

/// What became of a request for a handoff.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum HandedOver {
    /// A successor serves, and connections move to it.
    Moving(Moving),
    /// A plain successor serves, with this process id.
    Plainly(u32),
    /// There is none, and this process serves on.
    Failed,
    /// This process is to stop.
    Stopped,
}

impl HandedOver {
    fn pid(&self) -> u32 {
        match self {
            Self::Moving(moving) => moving.pid,
            Self::Plainly(pid) => *pid,
            Self::Failed | Self::Stopped => 0,
        }
    }
}

/// The way to a successor that serves.
#[derive(Debug)]
pub(super) struct Moving {
    mover: ConnectionSender,
    moves: SenderHandle,
    process: Option<Process>,
    pid: u32,
    /// The listeners that it does not go on with.
    moved: Vec<MovedListener>,
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
    Left(DrainReport, Option<TransferOutcome>),
}
