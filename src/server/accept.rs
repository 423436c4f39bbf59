//! The accept loop of one route.

use std::{pin::pin, sync::Arc};

use super::{
    connection,
    route::{HttpService, Incoming, MakeConnectionService},
};
use crate::{
    drain::{Drain, Tally},
    extract::ServedThrough,
    listener::ActivatedListener,
};

/// What an accept loop works with.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) listener: ActivatedListener,
    pub(super) through: ServedThrough,
    pub(super) drain: Drain,
    pub(super) tally: Arc<Tally>,
}

impl Accepting {
    /// Accepts until the drain begins, or until the one connection of `Accept=yes` has ended.
    pub(super) async fn run<M>(mut self, mut make: M)
    where
        M: MakeConnectionService,
    {
        let drain = self.drain.clone();
        let mut begun = pin!(drain.begun());
        let ended = self.listener.ended();
        let only_one = self.listener.is_one_connection();
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut begun => return,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = accepted;
            tracing::trace!(listener = self.listener.name(), %peer, "accepted a connection");
            let incoming = Incoming::new(&stream, &peer, self.listener.name());
            let service = make.make(incoming).await;
            let service = connection::Service::new(service, peer, self.through.clone());
            self.spawn(stream, service);
            if only_one {
                tokio::select! {
                    () = begun => {}
                    () = ended => {}
                }
                return;
            }
        }
    }

    fn spawn<S: HttpService>(&self, stream: crate::listener::ActivatedStream, service: connection::Service<S>) {
        let (drain, tally) = (self.drain.clone(), Arc::clone(&self.tally));
        self.drain.connections().spawn(connection::serve(stream, service, drain, tally));
    }
}
