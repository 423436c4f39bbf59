//! Who asks for a hand-over: a signal, the service itself, a successor that comes by, an operator.

use std::{convert::Infallible, fmt, future::pending, io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind},
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
    time::timeout,
};

use super::{
    attempt::Way,
    channel::Channel,
    handle::Call,
    outgoing::{Visitor, greet},
    place::Place,
    protocol::Outcome,
    rendezvous::Rendezvous,
};
use crate::{
    error::{Error, Kind},
    log,
    sys::signals::handle,
};

/// How long who comes by may take to say what it wants.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

const HANGUP: &str = "SIGHUP";

/// A hand-over that somebody asks for.
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
    /// A SIGHUP came while another hand-over was under way.
    has_refused_hangup: bool,
}

#[derive(Debug)]
struct Signals {
    hangup: Signal,
    user2: Signal,
}

impl Requests {
    pub(crate) fn new(calls: UnboundedReceiver<Call>) -> Self {
        Self { calls, signals: None, rendezvous: None, visitors: JoinSet::new(), has_refused_hangup: false }
    }

    /// SIGHUP and SIGUSR2 ask for a hand-over from now on.
    pub(crate) fn install_signals(&mut self) -> Result<(), Error> {
        let install = |kind| handle(kind).map_err(|source| Error::from(Kind::Signal { source }));
        self.signals =
            Some(Signals { hangup: install(SignalKind::hangup())?, user2: install(SignalKind::user_defined2())? });
        Ok(())
    }

    /// Whoever comes to `place` asks for one from now on.
    pub(crate) fn open(&mut self, place: Place) -> io::Result<()> {
        self.rendezvous = Some(Rendezvous::new(place)?);
        Ok(())
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
                channel = next_visitor(self.rendezvous.as_ref()) => {
                    self.visitors.spawn(hear(channel));
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
}

async fn next_visitor(rendezvous: Option<&Rendezvous>) -> Channel {
    match rendezvous {
        None => pending().await,
        Some(rendezvous) => rendezvous.visitor().await,
    }
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
    match timeout(GREETING_LIMIT, greet(channel)).await {
        Ok(Ok(Visitor::Joiner(joiner))) => {
            Some(Request { way: Way::Joiner(joiner), asker: Asker::Nobody("a successor at the rendezvous") })
        }
        Ok(Ok(Visitor::Operator(channel))) => Some(Request { way: Way::Spawn, asker: Asker::Operator(channel) }),
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

    /// Turns it down.
    pub(crate) fn refuse(self, reason: &str) {
        let Self { way, asker } = self;
        if let Way::Joiner(joiner) = way {
            joiner.refuse(reason);
        }
        match asker {
            Asker::Nobody(name) => log::info!(name, reason, "no hand-over"),
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
