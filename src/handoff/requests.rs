//! Who asks for a handoff: a signal, the service itself, a successor that comes by, an operator.

use std::{convert::Infallible, fmt, future::pending, io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind},
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{attempt::Way, handle::Call, rendezvous::Rendezvous};
use crate::{
    error::{Error, Kind},
    log,
    sys::signals::handle,
    wire::{
        channel::Channel,
        offer::{Peer, accept_hello},
        peers::Peers,
        protocol::{Leaving, Outcome},
        socket_path::BoundSocketPath,
    },
};

/// How long who comes by may take to say what it wants.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// How many may be about to say it. More wait in the kernel's queue, which has a limit of its own.
const MOST_VISITORS: usize = 32;

/// How long a successor may take to put its own socket at the path, once it serves.
const REPLACEMENT_LIMIT: Duration = Duration::from_secs(5);

/// How often to look whether it has.
const REPLACEMENT_PAUSE: Duration = Duration::from_millis(5);

/// How long the socket that is no longer at the path stays open for a visitor that has found it there: in the kernel, to look a path
/// up and to connect are two steps.
const VISITOR_GRACE: Duration = Duration::from_millis(50);

const HANGUP: &str = "SIGHUP";

const HANDED_OVER: &str = "this process has handed over";

/// A handoff that somebody asks for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) way: Way,
    pub(crate) asker: Asker,
}

/// Who asks, and is to be told what becomes of it.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A signal, or the successor, which hears of it anyway.
    Nobody(&'static str),
    /// The service itself.
    Service(Call),
    /// A program at the rendezvous.
    Operator(Channel),
}

/// Gathers them all.
#[derive(Debug)]
pub(crate) struct Requests {
    calls: UnboundedReceiver<Call>,
    signals: Option<Signals>,
    rendezvous: Option<Rendezvous>,
    visitors: JoinSet<Option<Request>>,
    /// A SIGHUP came while another handoff was under way.
    has_refused_hangup: bool,
    /// When this process handed over to one that is to take its place at the path; `None` again if that one does not in time.
    handed_over: Option<Instant>,
}

#[derive(Debug)]
struct Signals {
    hangup: Signal,
    user2: Signal,
}

impl Requests {
    pub(crate) fn new(calls: UnboundedReceiver<Call>) -> Self {
        Self {
            calls,
            signals: None,
            rendezvous: None,
            visitors: JoinSet::new(),
            has_refused_hangup: false,
            handed_over: None,
        }
    }

    /// SIGHUP and SIGUSR2 ask for a handoff from now on.
    pub(crate) fn install_signals(&mut self) -> Result<(), Error> {
        let install = |kind| handle(kind).map_err(|source| Error::from(Kind::Signal { source }));
        self.signals =
            Some(Signals { hangup: install(SignalKind::hangup())?, user2: install(SignalKind::user_defined2())? });
        Ok(())
    }

    /// Whoever comes to `place` asks for one from now on.
    pub(crate) fn open(&mut self, place: BoundSocketPath, peers: Peers) -> io::Result<()> {
        self.rendezvous = Some(Rendezvous::new(place, peers)?);
        Ok(())
    }

    /// A successor serves, and is to be met in place of this process. Visitors wait from now on until it has the path: then this
    /// process closes its socket, and they go to the successor. Where it does not take the path in time, they are refused as before.
    pub(crate) fn note_handed_over(&mut self) {
        self.handed_over = Some(Instant::now());
    }

    /// The successor has died, and this process serves again. `false` if it cannot be met any more, as it has lost the path.
    pub(crate) fn note_serving_again(&mut self) -> bool {
        self.handed_over = None;
        self.rendezvous.as_ref().is_some_and(|rendezvous| !rendezvous.is_replaced())
    }

    /// Returns when the successor has taken the path: a process that ended before would remove it. At most until the limit, and at once
    /// where this process has not handed over the path. Visitors that have been heard are sent on.
    pub(crate) async fn yield_place(&mut self) {
        if let (Some(rendezvous), Some(since)) = (&self.rendezvous, self.handed_over) {
            if !replaced(rendezvous, since).await {
                log::warn!("the successor has not taken the path of the handoff, which is removed");
                self.handed_over = None;
            }
        }
        self.rendezvous = None;
        // A visitor that has been heard is answered; one that has not been finds that it was not.
        self.visitors.abort_all();
        while let Some(visitor) = self.visitors.join_next().await {
            if let Ok(Some(request)) = visitor {
                self.send_on(request);
            }
        }
    }

    /// The next one.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Request {
        loop {
            tokio::select! {
                Some(call) = self.calls.recv() => return Request { way: Way::Spawn, asker: Asker::Service(call) },
                name = next_signal(&mut self.signals) => return Request { way: Way::Spawn, asker: Asker::Nobody(name) },
                channel = next_visitor(self.rendezvous.as_ref()),
                    if self.handed_over.is_none() && self.visitors.len() < MOST_VISITORS =>
                {
                    self.visitors.spawn(hear(channel));
                }
                is_replaced = is_place_taken(self.rendezvous.as_ref(), self.handed_over) => {
                    match is_replaced {
                        true => self.rendezvous = None,
                        false => self.handed_over = None,
                    }
                }
                Some(visitor) = self.visitors.join_next() => {
                    if let Ok(Some(request)) = visitor {
                        return request;
                    }
                }
            }
        }
    }

    /// Refuses all that come, for that reason; never ends.
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

    /// As [`refuse_all`](Self::refuse_all), when this process has handed over: those that come to the path are sent to the successor, as
    /// long as that is to be met there.
    ///
    /// # Cancel safety
    ///
    /// As [`next`](Self::next).
    pub(crate) async fn refer_all(&mut self) -> Infallible {
        loop {
            let request = self.next().await;
            self.send_on(request);
        }
    }

    fn send_on(&mut self, request: Request) {
        self.has_refused_hangup |= request.is_hangup();
        match self.handed_over {
            Some(_) => request.refer(),
            None => request.refuse(HANDED_OVER),
        }
    }
}

async fn next_visitor(rendezvous: Option<&Rendezvous>) -> Channel {
    match rendezvous {
        None => pending().await,
        Some(rendezvous) => rendezvous.visitor().await,
    }
}

/// Resolves when this process has handed over and its place is the successor's, or still its own after the limit: `false`.
async fn is_place_taken(rendezvous: Option<&Rendezvous>, handed_over: Option<Instant>) -> bool {
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
    sleep(VISITOR_GRACE).await;
    true
}

async fn next_signal(signals: &mut Option<Signals>) -> &'static str {
    match signals {
        None => pending().await,
        Some(Signals { hangup, user2 }) => tokio::select! {
            _ = hangup.recv() => HANGUP,
            _ = user2.recv() => "SIGUSR2",
        },
    }
}

/// Hears what somebody wants who came by.
async fn hear(channel: Channel) -> Option<Request> {
    match timeout(GREETING_LIMIT, accept_hello(channel)).await {
        Ok(Ok(Peer::Applicant(joiner))) => {
            Some(Request { way: Way::Applicant(joiner), asker: Asker::Nobody("a successor at the rendezvous") })
        }
        Ok(Ok(Peer::Operator(channel))) => Some(Request { way: Way::Spawn, asker: Asker::Operator(channel) }),
        Ok(Err(refusal)) => {
            log::warn!(%refusal, "somebody came to the rendezvous who cannot be understood");
            None
        }
        Err(_) => {
            log::warn!("somebody came to the rendezvous and said nothing");
            None
        }
    }
}

impl Request {
    /// Whether it came as SIGHUP, which also says that a terminal is gone.
    pub(crate) fn is_hangup(&self) -> bool {
        matches!(self.asker, Asker::Nobody(HANGUP))
    }

    /// Sends it to the process that is met at the path from now on.
    fn refer(self) {
        match self {
            // To one that joins, the end of the connection without a word says that this process is gone: it goes to the path again.
            Self { way: Way::Applicant(joiner), .. } => joiner.leave(),
            Self { asker: Asker::Operator(channel), .. } => channel.try_send(Leaving {}),
            request => request.refuse(HANDED_OVER),
        }
    }

    /// Turns it down.
    pub(crate) fn refuse(self, reason: &str) {
        let Self { way, asker } = self;
        if let Way::Applicant(joiner) = way {
            joiner.refuse(reason);
        }
        match asker {
            Asker::Nobody(name) => log::info!(name, reason, "no handoff"),
            asker => asker.tell(Err(super::attempt::failed(reason))),
        }
    }
}

impl Asker {
    /// Tells the outcome.
    pub(crate) fn tell(self, outcome: Result<u32, Error>) {
        match self {
            Self::Nobody(_) => {}
            Self::Service(call) => drop(call.send(outcome)),
            Self::Operator(channel) => channel.try_send(match outcome {
                Ok(pid) => Outcome { pid: Some(pid), reason: None },
                Err(error) => Outcome { pid: None, reason: Some(format!("{error:?}")) },
            }),
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody(name) => name,
            Self::Service(_) => "the service itself",
            Self::Operator(_) => "an operator",
        })
    }
}
