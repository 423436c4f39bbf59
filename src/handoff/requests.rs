//! The requests for a handoff: of a signal, the service itself, a new process at the path, or an operator's program.
//!
//! A new process and an operator are peers at the path. Each peer is read in a task of its own, so that one that sends nothing delays
//! no other.

use std::{
    convert::Infallible,
    fmt,
    future::pending,
    io,
    time::{Duration, Instant as StdInstant},
};

use tokio::{
    signal::unix::{Signal, SignalKind},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    failure::failed,
    handle::{Call, Calls},
    rendezvous::listen::Rendezvous,
    signals::install,
};
use crate::{
    activation::ActivatedListeners,
    blocking::on_thread_or_here,
    error::Error,
    log,
    wire::{
        channel::Channel,
        offer::{Applicant, Peer, accept_join},
        protocol::{Leaving, Outcome},
        socket_path::{BoundSocketPath, StagedSocketPath},
    },
};

/// How long a peer at the path may take to send its first message.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// How many peers are read at a time. The others wait in the kernel's queue, which has a limit of its own.
const MOST_PEERS: usize = 32;

/// How long the new process may take to put its own socket at the path, once it serves.
const REPLACEMENT_LIMIT: Duration = Duration::from_secs(5);

/// How often to look whether it has.
const REPLACEMENT_PAUSE: Duration = Duration::from_millis(5);

/// How long the socket that is no longer at the path stays open for a peer that has found it there: in the kernel, to look a path
/// up and to connect are two steps.
const PEER_GRACE: Duration = Duration::from_millis(50);

/// How long another process may hold the path.
const PATH_LIMIT: Duration = Duration::from_secs(5);

const HANGUP: &str = "SIGHUP";

const HANDED_OVER: &str = "this process has handed over";

/// A request for a handoff.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) trigger: Trigger,
    pub(crate) requester: Requester,
}

/// What brings the new process.
#[derive(Debug)]
pub(crate) enum Trigger {
    /// This process starts it.
    Spawn,
    /// It has come to the rendezvous.
    Rendezvous(Applicant),
}

/// The one that asks, and learns the outcome.
#[derive(Debug)]
pub(crate) enum Requester {
    /// A signal of this name, which has no answer.
    Signal(&'static str),
    /// The new process, which learns it anyway.
    Successor,
    /// The service itself.
    Service(Call),
    /// A program at the rendezvous.
    Operator(Channel),
}

/// All requests for a handoff of this process, and the path where it is met.
#[derive(Debug)]
pub(crate) struct Requests {
    calls: Calls,
    signals: Option<HandoffSignals>,
    /// The next socket at the path, until this process serves.
    staged: Option<StagedSocketPath>,
    rendezvous: Option<Rendezvous>,
    peers: JoinSet<Option<Request>>,
    /// A SIGHUP came while another handoff was under way.
    has_refused_hangup: bool,
    /// When this process handed over to one that takes the path; `None` again if that one does not take it in time.
    handed_over: Option<Instant>,
}

#[derive(Debug)]
struct HandoffSignals {
    hangup: Signal,
    user2: Signal,
}

impl Requests {
    pub(crate) fn new(calls: Calls) -> Self {
        Self {
            calls,
            signals: None,
            staged: None,
            rendezvous: None,
            peers: JoinSet::new(),
            has_refused_hangup: false,
            handed_over: None,
        }
    }

    /// SIGHUP and SIGUSR2 ask for a handoff from now on.
    pub(crate) fn install_signals(&mut self) -> Result<(), Error> {
        self.signals = Some(HandoffSignals {
            hangup: install(SignalKind::hangup())?,
            user2: install(SignalKind::user_defined2())?,
        });
        Ok(())
    }

    /// Does what may fail of taking the path over, so that only a rename is left for [`open_path`](Self::open_path).
    pub(super) async fn stage_path(&mut self, activated: &ActivatedListeners) -> Result<(), Error> {
        if let Some(path) = activated.handoff_path() {
            let peers = activated.handoff_peers();
            let prepare = move || BoundSocketPath::stage(&path, &peers, StdInstant::now() + PATH_LIMIT);
            self.staged = Some(flat(on_thread_or_here(prepare).await)?);
        }
        Ok(())
    }

    /// Listens at the path, in place of the old process. A failure is logged: the next process does not find this one there.
    ///
    /// # Cancel safety
    ///
    /// Dropped, this process does not listen.
    pub(super) async fn open_path(&mut self, activated: &ActivatedListeners) {
        log_unopened(self.try_to_open_path(activated).await);
    }

    /// Listens at the path again, as the new process has died.
    pub(super) async fn open_path_again(&mut self, activated: &ActivatedListeners) {
        self.handed_over = None;
        let has_path = self.rendezvous.as_ref().is_some_and(|rendezvous| !rendezvous.is_replaced());
        if has_path || activated.handoff_path().is_none() {
            return;
        }
        let opened = async {
            self.stage_path(activated).await?;
            self.try_to_open_path(activated).await
        };
        log_unopened(opened.await);
    }

    async fn try_to_open_path(&mut self, activated: &ActivatedListeners) -> Result<(), Error> {
        let path = match self.staged.take() {
            Some(staged) => {
                Some(flat(on_thread_or_here(move || staged.rename_into_place(StdInstant::now() + PATH_LIMIT)).await)?)
            }
            None => activated.take_bound_path(),
        };
        let Some(path) = path else { return Ok(()) };
        let opened = Rendezvous::new(path, activated.handoff_peers());
        self.rendezvous = Some(opened.map_err(|error| failed(format!("cannot listen at the path: {error}")))?);
        Ok(())
    }

    /// The new process serves, and takes the path. Peers wait until it has: then this process closes its socket, and they go to the new
    /// process. If it does not take the path in time, this process refuses them.
    pub(crate) fn note_handed_over(&mut self) {
        self.handed_over = Some(Instant::now());
    }

    /// Returns when the new process has taken the path, as the end of this one would remove it before: at most after the limit, and at once
    /// if this process has not handed the path over. Peers that have been read are sent on.
    pub(crate) async fn yield_path(&mut self) {
        if let (Some(rendezvous), Some(since)) = (&self.rendezvous, self.handed_over) {
            if !replaced(rendezvous, since).await {
                log::warn!("the successor has not taken the path of the handoff, which is removed");
                self.handed_over = None;
            }
        }
        self.rendezvous = None;
        // A peer that has been read is answered. The others find that they were not read, and come again.
        self.peers.abort_all();
        while let Some(peer) = self.peers.join_next().await {
            if let Ok(Some(request)) = peer {
                self.refer_or_refuse(request);
            }
        }
    }

    /// The next request.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Request {
        loop {
            tokio::select! {
                Some(call) = self.calls.recv() => return Request::spawn(Requester::Service(call)),
                name = next_signal(&mut self.signals) => return Request::spawn(Requester::Signal(name)),
                channel = next_peer(self.rendezvous.as_ref()),
                    if self.handed_over.is_none() && self.peers.len() < MOST_PEERS =>
                {
                    self.peers.spawn(read_request(channel));
                }
                is_replaced = is_path_taken(self.rendezvous.as_ref(), self.handed_over) => {
                    match is_replaced {
                        true => self.rendezvous = None,
                        false => self.handed_over = None,
                    }
                }
                Some(peer) = self.peers.join_next() => {
                    if let Ok(Some(request)) = peer {
                        return request;
                    }
                }
            }
        }
    }

    /// Refuses all requests for `reason`; never ends.
    ///
    /// # Cancel safety
    ///
    /// As [`next`](Self::next).
    pub(crate) async fn refuse_all(&mut self, reason: &str) -> Infallible {
        loop {
            let request = self.next().await;
            self.has_refused_hangup |= request.is_hangup();
            request.refuse(reason);
        }
    }

    /// Whether a SIGHUP was refused since the last call: it may have said that the terminal is gone, which is no request.
    pub(crate) fn take_refused_hangup(&mut self) -> bool {
        std::mem::take(&mut self.has_refused_hangup)
    }

    /// As [`refuse_all`](Self::refuse_all), when this process has handed over: sends the peers at the path to the new process, as long as
    /// that is about to take it.
    ///
    /// # Cancel safety
    ///
    /// As [`next`](Self::next).
    pub(crate) async fn refer_all(&mut self) -> Infallible {
        loop {
            let request = self.next().await;
            self.refer_or_refuse(request);
        }
    }

    fn refer_or_refuse(&mut self, request: Request) {
        self.has_refused_hangup |= request.is_hangup();
        match self.handed_over {
            Some(_) => request.refer(),
            None => request.refuse(HANDED_OVER),
        }
    }
}

async fn next_peer(rendezvous: Option<&Rendezvous>) -> Channel {
    match rendezvous {
        None => pending().await,
        Some(rendezvous) => rendezvous.accept().await,
    }
}

/// Resolves when this process has handed over and its place is the successor's, or still its own after the limit: `false`.
async fn is_path_taken(rendezvous: Option<&Rendezvous>, handed_over: Option<Instant>) -> bool {
    match (rendezvous, handed_over) {
        (Some(rendezvous), Some(since)) => replaced(rendezvous, since).await,
        _ => pending().await,
    }
}

async fn replaced(rendezvous: &Rendezvous, since: Instant) -> bool {
    while !rendezvous.is_replaced() {
        if since.elapsed() > REPLACEMENT_LIMIT {
            return false;
        }
        sleep(REPLACEMENT_PAUSE).await;
    }
    sleep(PEER_GRACE).await;
    true
}

async fn next_signal(signals: &mut Option<HandoffSignals>) -> &'static str {
    match signals {
        None => pending().await,
        Some(HandoffSignals { hangup, user2 }) => tokio::select! {
            _ = hangup.recv() => HANGUP,
            _ = user2.recv() => "SIGUSR2",
        },
    }
}

/// What a peer at the path asks for; `None` if that cannot be understood.
async fn read_request(channel: Channel) -> Option<Request> {
    match timeout(GREETING_LIMIT, accept_join(channel)).await {
        Ok(Ok(Peer::Applicant(applicant))) => {
            Some(Request { trigger: Trigger::Rendezvous(applicant), requester: Requester::Successor })
        }
        Ok(Ok(Peer::Operator(channel))) => Some(Request::spawn(Requester::Operator(channel))),
        Ok(Err(refusal)) => {
            log::warn!(%refusal, "a peer at the path of the handoff cannot be understood");
            None
        }
        Err(_) => {
            log::warn!("a peer at the path of the handoff has sent nothing");
            None
        }
    }
}

fn log_unopened(opened: Result<(), Error>) {
    if let Err(error) = opened {
        log::error!(%error, "the next process cannot meet this one");
    }
}

fn flat<T>(done: io::Result<Result<T, Error>>) -> Result<T, Error> {
    done.unwrap_or_else(|error| Err(failed(error.to_string())))
}

impl Request {
    fn spawn(requester: Requester) -> Self {
        Self { trigger: Trigger::Spawn, requester }
    }

    /// Whether it came as SIGHUP, which also says that a terminal is gone.
    pub(crate) fn is_hangup(&self) -> bool {
        matches!(self.requester, Requester::Signal(HANGUP))
    }

    /// Sends it to the process that is met at the path from now on.
    fn refer(self) {
        match self {
            // To one that joins, the end of the connection without a word says that this process is gone: it goes to the path again.
            Self { trigger: Trigger::Rendezvous(applicant), .. } => applicant.leave(),
            Self { requester: Requester::Operator(channel), .. } => channel.try_send(Leaving {}),
            request => request.refuse(HANDED_OVER),
        }
    }

    /// Turns it down.
    pub(crate) fn refuse(self, reason: &str) {
        let Self { trigger, requester } = self;
        if let Trigger::Rendezvous(applicant) = trigger {
            applicant.refuse(reason);
        }
        match requester {
            Requester::Signal(_) | Requester::Successor => log::info!(%requester, reason, "no handoff"),
            requester => requester.answer(Err(failed(reason))),
        }
    }
}

impl Requester {
    /// Sends the outcome.
    pub(crate) fn answer(self, outcome: Result<u32, Error>) {
        match self {
            Self::Signal(_) | Self::Successor => {}
            Self::Service(call) => drop(call.send(outcome)),
            Self::Operator(channel) => channel.try_send(match outcome {
                Ok(pid) => Outcome { pid: Some(pid), reason: None },
                Err(error) => Outcome { pid: None, reason: Some(format!("{error:?}")) },
            }),
        }
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal(name) => name,
            Self::Successor => "a successor at the rendezvous",
            Self::Service(_) => "the service itself",
            Self::Operator(_) => "an operator",
        })
    }
}
