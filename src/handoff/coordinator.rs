//! The coordinator of a process: the one loop that owns its phase, its signals and its requests for a handoff.
//!
//! ```text
//!  join ──> take_over ──> start ──> next_request ──> hand_over ──> transfer ──> end
//!                                     ^   │            │              │
//!                                     │   └─> drain    └ failed ──┐   └ the new process has died
//!                                     └───────────────────────────┴───┘
//! ```
//!
//! What the process serves with is a [`Service`]. Every wait is a branch beside the signals: up to the commit a request to stop drops what
//! waits, and with it the handoff. After the commit it is noted in [`DrainSignals`], as the drain is under way already, and the operator's
//! second signal aborts what is left of it.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    failure::{failed, stopped},
    handle::{Calls, Handoff},
    new::takeover::{PendingTakeover, ReceiverPair, Takeover, call_off},
    old::{
        final_state::send_final_state, generation::GenerationInfo, plain::start_plain_successor,
        prepare::prepare_successor, successor::Successor, transfer::transfer,
    },
    options::Options,
    requests::{Request, Requester, Requests, Trigger},
    service::{Event, Service},
    signals::{DrainSignals, Stop},
    spawn::{claim::Claim, permit::SpawnPermit},
};
use crate::{
    activation::{ActivatedListeners, StartContext, held_off},
    error::Error,
    log,
    sys::{signals, terminal::Terminal},
    wire::{moved::ReplacedListener, receive::ReceiverHandle},
};

/// How long the old process may take to read that this one stops.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// Coordinates the handoffs of one service of this process. `F` resolves when the program asks the service to stop.
#[derive(Debug)]
pub(crate) struct Coordinator<F> {
    options: Options,
    handle: Handoff,
    requests: Requests,
    stop: Stop<F>,
    permit: SpawnPermit,
    terminal: Terminal,
    /// Whether systemd is notified of the new main process.
    is_notifying: bool,
    predecessor: Option<ReceiverHandle>,
    serves: bool,
}

/// What became of a handoff that was committed to.
enum Transferred<S: Service> {
    /// The new process serves, and nothing is left here.
    Finished(S::Report),
    /// The new process has died, and this one serves again.
    RolledBack(S),
}

impl<F: Future<Output = ()>> Coordinator<F> {
    /// Installs the signals that `options` and `stop` name. `is_notifying` says that systemd is notified of the new main process.
    ///
    /// # Errors
    ///
    /// Another server of this process hands over at the same signals, or the system refuses a handler.
    pub(crate) fn new(
        options: Options,
        (handle, calls): (Handoff, Calls),
        mut stop: Stop<F>,
        activated: &ActivatedListeners,
        is_notifying: bool,
    ) -> Result<Self, Error> {
        let permit = SpawnPermit::decide(&options, activated, is_notifying)?;
        // Before there is a handler for SIGHUP.
        let terminal = Terminal::note();
        let mut requests = Requests::new(calls);
        // Both must not end this process before it serves: the commit, or MAINPID, is known elsewhere earlier than here.
        if options.signals {
            requests.install_signals()?;
        }
        stop.signals.install()?;
        let (predecessor, serves) = (None, false);
        Ok(Self { options, handle, requests, stop, permit, terminal, is_notifying, predecessor, serves })
    }

    /// The handle of the service on its handoffs.
    pub(crate) fn handle(&self) -> Handoff {
        self.handle.clone()
    }

    /// The claim of this service to the handoffs of the process.
    pub(crate) fn claim(&self) -> Arc<Claim> {
        Arc::clone(&self.permit.claim)
    }

    /// Asks the old process what it hands over, if there is one, and imports its state; `None` if the service is asked to stop before.
    ///
    /// # Errors
    ///
    /// The old process refuses, its path cannot be taken, or its state cannot be imported.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the old process learns that this one does not take over.
    pub(crate) async fn join(&mut self, activated: &ActivatedListeners) -> Result<Option<PendingTakeover>, Error> {
        let Self { options, handle, requests, stop, .. } = self;
        if options.directory.is_none() {
            StartContext::of_this_process().note_releases();
        }
        let Some(joined) = stop.unless_requested(PendingTakeover::join(activated, handle)).await else {
            call_off(activated);
            return Ok(None);
        };
        let mut pending = joined?;
        if !pending.has_predecessor {
            return Ok(Some(pending));
        }
        let initialise = async {
            requests.stage_path(activated).await?;
            pending.import(&options.states).await
        };
        match stop.unless_requested(initialise).await {
            Some(initialised) => pending.check(initialised).map(|((), pending)| Some(pending)),
            None => {
                pending.leave();
                Ok(None)
            }
        }
    }

    /// The output of `work`, a part of the start of the service; `None` if the service is asked to stop before.
    pub(crate) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        self.stop.unless_requested(work).await
    }

    /// Waits until the old process lets this one accept.
    ///
    /// # Errors
    ///
    /// The old process has called the handoff off.
    pub(crate) async fn take_over(&mut self, pending: PendingTakeover) -> Result<Takeover, Error> {
        pending.ready(self.stop.requested()).await
    }

    /// From now on this process serves: it takes what still comes from the old process, and the next one finds it at the path.
    pub(crate) async fn start<S: Service>(&mut self, service: &S, takeover: Takeover) {
        self.stop.drain = service.drain().clone();
        let Takeover::Serves(incoming) = takeover else {
            // Nothing was served, so there is nothing to keep for a restart.
            self.stop.is_restart = false;
            return;
        };
        // Those that the program leaves without a handler end it from now on, as they would have ended the first process.
        signals::let_through(&held_off());
        service.activated().set_passed_on(false);
        self.receive(service, incoming);
        let opened = self.requests.open_path(service.activated());
        self.serves = self.stop.unless_requested(opened).await.is_some();
        if self.serves {
            service.announce(Event::Serving).await;
        }
    }

    fn receive<S: Service>(&mut self, service: &S, incoming: Option<ReceiverPair>) {
        let handle = self.handle.clone();
        let Some((receiver, predecessor)) = incoming else { return handle.note_predecessor_gone() };
        self.predecessor = Some(predecessor);
        let mut new_server = service.new_server(&self.options.final_states);
        tokio::spawn(async move {
            let ended = receiver.showing_older(handle.older_sender()).run(&mut new_server).await;
            log::info!(?ended, "the predecessor is gone");
            handle.note_predecessor_gone();
        });
    }

    /// Serves until the service is asked to stop or has handed over, and all its connections have ended.
    pub(crate) async fn run<S: Service>(mut self, mut service: S) -> S::Report {
        while self.serves {
            let Some(request) = self.next_request(&service).await else { break };
            let Some(successor) = self.hand_over(request, &mut service).await else { continue };
            match self.transfer(successor, service).await {
                Transferred::Finished(report) => return report,
                Transferred::RolledBack(resumed) => service = resumed,
            }
            self.stop.drain = service.drain().clone();
            let opened = self.requests.open_path_again(service.activated());
            self.serves = self.stop.unless_requested(opened).await.is_some();
        }
        self.drain(service).await
    }

    /// The next request for a handoff; `None` when the service is to end.
    async fn next_request<S: Service>(&mut self, service: &S) -> Option<Request> {
        let request = tokio::select! {
            () = service.exhausted() => None,
            () = self.stop.requested() => None,
            request = self.requests.next() => Some(request),
        };
        request.filter(|request| !request.is_hangup() || self.has_terminal())
    }

    /// Whether a SIGHUP is a request: it also says that the terminal is gone.
    fn has_terminal(&self) -> bool {
        let has_hung_up = self.terminal.has_hung_up();
        if has_hung_up {
            log::info!("the terminal is gone, draining");
        }
        !has_hung_up
    }

    /// Brings a new process to where it accepts. `None` after an error, which the requester learns: nothing has changed then, and this process
    /// accepts. So it is when the service is asked to stop before, and then it serves no more.
    async fn hand_over<S: Service>(&mut self, request: Request, service: &mut S) -> Option<Successor> {
        let Request { trigger, requester } = request;
        let is_spawn = matches!(trigger, Trigger::Spawn);
        log::info!(%requester, "handing over");
        let Self { options, requests, handle, permit, stop, .. } = self;
        let generation = GenerationInfo::new(handle);
        if is_spawn {
            let waits = if generation.has_draining_slot(options) { Duration::ZERO } else { options.timeout };
            service.announce(Event::HandingOver(options.timeout.saturating_add(waits))).await;
        }
        let tried = async {
            if is_spawn {
                permit.check()?;
            }
            service.prepare().await;
            let trigger = generation.wait_for_draining_slot(options, trigger).await?;
            prepare_and_commit(options, generation, trigger, service).await
        };
        let tried = tokio::select! {
            tried = stop.unless_requested(tried) => tried,
            never = requests.refuse_all("another handoff is under way") => match never {},
        };
        match tried {
            Some(Ok(successor)) => {
                requester.answer(Ok(successor.pid));
                Some(successor)
            }
            Some(Err(error)) => {
                self.note_failure(error, requester, is_spawn, service).await;
                None
            }
            None => {
                service.announce(Event::Stopped).await;
                requester.answer(Err(stopped()));
                self.serves = false;
                None
            }
        }
    }

    /// Nothing has changed, and this process serves on, unless its terminal is gone.
    async fn note_failure<S: Service>(&mut self, error: Error, requester: Requester, is_spawn: bool, service: &S) {
        log::error!(%error, "the handoff has failed");
        if is_spawn {
            service.announce(Event::RolledBack(&error.to_string())).await;
        }
        self.options.run_after_failure(&error);
        requester.answer(Err(error));
        self.serves = !self.requests.take_refused_hangup() || self.has_terminal();
    }

    /// Leaves the service to the new process: what is left here ends within the limit of the drain.
    async fn transfer<S: Service>(&mut self, successor: Successor, mut service: S) -> Transferred<S> {
        let Successor { pid, replaced, transfer: connections } = successor;
        log::info!(pid, "the successor accepts, draining what is here");
        service.activated().set_passed_on(true);
        if connections.is_some() {
            self.requests.note_handed_over();
        }
        let Self { options, requests, handle, predecessor, stop, is_notifying, .. } = self;
        let signals = DrainSignals::default();
        let leaving = async {
            let left = match connections {
                Some(connections) => {
                    transfer(&service, connections, &replaced, handle.predecessor_gone(), &signals).await
                }
                None => Some((drain_beside_plain_successor(&service, pid, handle, &signals).await, None)),
            };
            let Some((report, phase)) = left else {
                roll_back(&mut service, &replaced);
                return Transferred::RolledBack(service);
            };
            if let Some(phase) = phase {
                signals.unless_aborted(send_final_state(options, phase)).await;
            }
            signals.unless_aborted(leave_predecessor(handle, predecessor.as_ref())).await;
            Transferred::Finished(service.end(report, signals.aborted()).await)
        };
        let mut watching = pin!(stop.signals.watch_transfer(*is_notifying, &signals));
        let outcome = tokio::select! {
            outcome = leaving => outcome,
            never = &mut watching => match never {},
            never = requests.refer_all() => match never {},
        };
        if matches!(outcome, Transferred::Finished(_)) {
            tokio::select! {
                _ = signals.unless_aborted(requests.yield_path()) => {}
                never = &mut watching => match never {},
            }
        }
        outcome
    }

    /// Ends this process without a new one. The old one learns it, if it is still there: it must not take that for a crash.
    async fn drain<S: Service>(self, service: S) -> S::Report {
        let Self { handle, predecessor, mut stop, .. } = self;
        let signals = DrainSignals::default();
        let leave = async {
            signals.unless_aborted(leave_predecessor(&handle, predecessor.as_ref())).await;
        };
        tokio::select! {
            report = service.shut_down(stop.is_restart, leave, signals.aborted()) => report,
            never = stop.signals.watch_drain(false, &signals) => match never {},
        }
    }
}

/// Serves again, as the new process has died. The addresses of the `replaced` listeners stay closed.
fn roll_back<S: Service>(service: &mut S, replaced: &[ReplacedListener]) {
    log::error!("the successor has died, this process accepts again");
    for ReplacedListener { name, address } in replaced {
        log::error!(name, address, "this address was closed for the successor's");
    }
    service.activated().set_passed_on(false);
    service.resume();
}

/// Prepares a new process and lets it accept.
///
/// # Cancel safety
///
/// Dropped, the new process is sent away, and this one accepts again.
async fn prepare_and_commit<S: Service>(
    options: &Options,
    generation: GenerationInfo,
    trigger: Trigger,
    service: &S,
) -> Result<Successor, Error> {
    let activated = service.activated();
    if let (Some(plain), Trigger::Spawn) = (options.plain, &trigger) {
        log::debug!("stops accepting before the plain successor is started");
        // Its sockets have to block: clients that connect meanwhile wait in the kernel's queue.
        let hold = service.pause(options.timeout).await?;
        let blocking = activated.make_blocking().map_err(failed)?;
        let successor = start_plain_successor(options, activated, plain).await?;
        blocking.leave();
        hold();
        return Ok(successor);
    }
    let prepared = prepare_successor(options, activated, generation, trigger).await?;
    let pid = prepared.pid();
    log::debug!(pid, "the successor is ready, this process stops accepting");
    let hold = service.pause(options.timeout).await?;
    // As late as can be: if systemd knows the new main process and that ends, it ends this one.
    if prepared.is_started() {
        service.announce(Event::MainPid(pid)).await;
    }
    let successor = prepared.commit().await?;
    hold();
    Ok(successor)
}

/// Drains, as the plain successor `pid` has the listeners.
async fn drain_beside_plain_successor<S: Service>(
    service: &S,
    pid: u32,
    handle: &Handoff,
    signals: &DrainSignals,
) -> S::Report {
    // It cannot say so itself: the service manager does not know it yet.
    service.announce(Event::Serving).await;
    service.start_drain(None);
    let drained = service.drained(None, &[], handle.predecessor_gone(), signals.aborted());
    // The manager has to know the new main process before this one ends.
    tokio::join!(drained, service.announce(Event::MainPid(pid))).0
}

/// Tells the old process, if it is still there, that this one stops: it must not take that for a crash.
///
/// # Cancel safety
///
/// Dropped, the old process may take it for a crash.
async fn leave_predecessor(handle: &Handoff, predecessor: Option<&ReceiverHandle>) {
    if let Some(predecessor) = predecessor.filter(|_| !handle.is_predecessor_gone()) {
        let _ = timeout(LEAVE_LIMIT, predecessor.leave()).await;
    }
}
