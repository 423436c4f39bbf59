//! Generations of one route, in one process: each passes its connections to the next, in the form in which they travel.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::{
    super::{Connection, context::RouteContext, transferred::TransferredConnection},
    app::App,
};
use crate::{
    activation::ActivatedListeners,
    addr::{PeerAddr, UnixPeer},
    drain::{Counters, Drain},
    extract::Served,
    idle_connection::IdleConnection,
    listener::ActivatedStream,
    server::{
        accept::AcceptCommand,
        limits::Limits,
        reaper::Reaper,
        sink::{RouteSink, TAKEN},
    },
    wire::{
        accepts::SuccessorAccepts,
        batch::{Batch, received, unpack},
        protocol::{CarriedConnections, Connections, Message},
        version::VERSION,
    },
};

/// All generations, the last of which accepts.
#[derive(Clone)]
pub(super) struct World {
    generations: Arc<Mutex<Vec<Generation>>>,
    app: App,
}

struct Generation {
    context: Arc<RouteContext>,
    sink: Arc<RouteSink>,
    /// What comes back, which is nothing.
    _commands: UnboundedReceiver<AcceptCommand>,
}

impl World {
    pub(super) fn new(app: App) -> Self {
        Self { generations: Arc::new(Mutex::new(vec![Generation::new()])), app }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Generation>> {
        self.generations.lock().unwrap()
    }

    /// The number of the last one.
    pub(super) fn last(&self) -> usize {
        self.lock().len() - 1
    }

    /// How many connections there are.
    pub(super) fn open(&self) -> usize {
        self.lock().iter().map(|generation| generation.context.drain.connections().len()).sum()
    }

    /// How many of them the last one does not have.
    pub(super) fn left_behind(&self) -> usize {
        let generations = self.lock();
        let (_, old) = generations.split_last().unwrap();
        old.iter().map(|generation| generation.context.drain.connections().len()).sum()
    }

    /// Serves a new connection in the last one.
    pub(super) fn accept(&self, stream: std::os::fd::OwnedFd) {
        let stream = ActivatedStream::register(stream).unwrap();
        let peer = PeerAddr::Unix(UnixPeer::default());
        let (number, context) = self.newest();
        tokio::spawn(Connection::new(stream, peer, self.app.of(number), context, None).serve());
    }

    /// The next generation begins.
    pub(super) fn hand_over(&self) {
        let (old, sink, number) = {
            let mut generations = self.lock();
            let last = generations.last().unwrap();
            let (old, sink) = (Arc::clone(&last.context), Arc::clone(&last.sink));
            generations.push(Generation::new());
            (old, sink, generations.len() - 1)
        };
        let world = self.clone();
        sink.redirect_to(Some(Box::new(move |connection| {
            world.adopt(connection, number);
            Ok(())
        })));
        old.drain.start_succession(true);
    }

    /// The last generation ends, and no other begins.
    pub(super) fn stop(&self) {
        let last = Arc::clone(&self.lock().last().unwrap().context);
        last.drain.start();
    }

    /// Serves a connection of an old generation in the one after it.
    fn adopt(&self, connection: IdleConnection, number: usize) {
        let context = Arc::clone(&self.lock()[number].context);
        // What was sent is kept until it has arrived, so that it is never nowhere.
        let (arrived, _sent) = travelled(connection);
        let arrival = TransferredConnection::register(arrived).unwrap();
        tokio::spawn(Connection::resumed(arrival, self.app.of(number), context, None).serve());
    }

    fn newest(&self) -> (usize, Arc<RouteContext>) {
        let generations = self.lock();
        (generations.len() - 1, Arc::clone(&generations.last().unwrap().context))
    }
}

impl Generation {
    fn new() -> Self {
        let (back, _commands) = mpsc::unbounded_channel();
        let (drain, limits, name) = (Drain::new(), Limits::default(), Arc::<str>::from("http"));
        let (activated, sink) = (ActivatedListeners::from_env().unwrap(), Arc::new(RouteSink::new(back)));
        let context = RouteContext {
            served: Served::new(Arc::clone(&name), &activated, &drain),
            drain,
            counters: Arc::new(Counters::new(name)),
            reaper: Arc::new(Reaper::new(&limits)),
            limits,
            sink: Arc::clone(&sink) as _,
            #[cfg(feature = "tls")]
            encryption: None,
        };
        Self { context: Arc::new(context), sink, _commands }
    }
}

/// What arrives of a connection that was sent to another process, and what was sent.
fn travelled(connection: IdleConnection) -> (IdleConnection, Batch) {
    let accepts = SuccessorAccepts::from(vec![("http".to_owned(), TAKEN)]);
    let batch = Batch::gather(&mut VecDeque::from([connection]), 1, VERSION, &accepts).0.unwrap();
    let fds = batch.fds().iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    let records = match Message::decode(batch.packet()) {
        Ok(Some(Message::Connections(Connections { records }))) => received(records),
        Ok(Some(Message::CarriedConnections(CarriedConnections { records }))) => received(records),
        message => panic!("{message:?} is no message that moves connections"),
    };
    (unpack(records, fds, |name| Arc::from(name)).unwrap().pop().unwrap(), batch)
}
