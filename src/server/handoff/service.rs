//! A server as the coordinator of its handoffs sees it.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::roles::{NewServer, OldServer, take};
use crate::{
    activation::ActivatedListeners,
    drain::{Drain, DrainReport, Stats, UnmovedReason},
    error::Error,
    handoff::{Event, Service, StateParts, failed},
    idle_connection::IdleConnection,
    log,
    server::{
        fd_store::FdStoreTask,
        notify::{Announcer, IdleExit},
        routes::{Routes, finish},
    },
    wire::{moved::ReplacedListener, send::SenderHandle},
};

/// The routes of a server that runs, what it notifies the service manager of, and what that one keeps for it.
#[derive(Debug)]
pub(in crate::server) struct ServerService<'a> {
    routes: Routes,
    announcer: &'a Announcer,
    fd_store: FdStoreTask,
    idle_exit: IdleExit,
    stats: Stats,
    /// How long the drain may take.
    limit: Duration,
    /// Connections that came back as the new process died, until this one serves again.
    returned: Arc<Mutex<Vec<IdleConnection>>>,
}

impl<'a> ServerService<'a> {
    pub(in crate::server) fn new(
        routes: Routes,
        stats: Stats,
        announcer: &'a Announcer,
        fd_store: FdStoreTask,
        limit: Duration,
    ) -> Self {
        let (idle_exit, returned) = (IdleExit::new(None, []), Arc::default());
        Self { routes, announcer, fd_store, idle_exit, stats, limit, returned }
    }

    /// Serves what the service manager has kept, and ends by `idle_exit`. Closes the sockets without a route that the predecessor had bound,
    /// unless `allow_unserved`: another server of this process may serve them.
    pub(in crate::server) fn start(&mut self, idle_exit: IdleExit, allow_unserved: bool) {
        self.idle_exit = idle_exit;
        if !allow_unserved {
            let handles = self.routes.handles();
            self.routes.activated().close_unwanted(|name| handles.iter().any(|route| &*route.name == name));
        }
        self.fd_store.start(&self.routes);
    }
}

impl Service for ServerService<'_> {
    type Report = DrainReport;
    type OldServer = OldServer;
    type NewServer = NewServer;
    const RESUMES: bool = true;

    fn activated(&self) -> &ActivatedListeners {
        self.routes.activated()
    }

    fn drain(&self) -> &Drain {
        self.routes.current_drain()
    }

    fn old_server(&self) -> OldServer {
        OldServer::new(&self.routes, &self.returned)
    }

    fn new_server(&self, final_states: &StateParts) -> NewServer {
        NewServer::new(&self.routes, final_states)
    }

    async fn announce(&self, event: Event<'_>) {
        match event {
            Event::Serving => self.announcer.ready(),
            Event::HandingOver(limit) => self.announcer.handing_over(limit),
            Event::MainPid(pid) => self.announcer.set_main_pid(pid).await,
            Event::RolledBack(reason) => self.announcer.rolled_back(reason),
            Event::Stopped => self.announcer.take_back(),
        }
    }

    async fn exhausted(&self) {
        tokio::select! {
            () = self.routes.exhausted() => {}
            () = self.idle_exit.has_left(&self.routes, &self.stats) => log::info!("no connection was open for the idle time, leaving"),
        }
    }

    async fn prepare(&mut self) {
        self.fd_store.taken().await;
    }

    async fn pause(&self, limit: Duration) -> Result<impl FnOnce(), Error> {
        let paused = self.routes.pause(limit).await.map_err(|name| {
            failed(format!(
                "the route {name:?} has not stopped accepting within {limit:?} (handoff_timeout), as its make-service does not answer"
            ))
        })?;
        Ok(move || paused.hold())
    }

    fn start_drain(&self, connections: Option<&SenderHandle>) {
        match connections {
            Some(_) => {
                self.routes.redirect_to(connections);
                self.announcer.handed_over();
            }
            None => self.fd_store.leave_plainly(&self.routes),
        }
        self.drain().start_succession(connections.is_some());
    }

    async fn drained(
        &self,
        connections: Option<SenderHandle>,
        replaced: &[ReplacedListener],
        predecessor_gone: impl Future<Output = ()>,
        abort: impl Future<Output = &'static str>,
    ) -> DrainReport {
        // The routes have it.
        drop(connections);
        let before = async {
            self.routes.close_replaced(replaced).await;
            predecessor_gone.await;
        };
        let report = self.routes.leave(self.limit, before, abort).await;
        self.routes.redirect_to(None);
        let (moved, unmoved) = self.stats.moved();
        log::info!(%moved, %unmoved, "the connections have moved to the successor or have ended");
        report
    }

    fn finish_locally(&self) {
        self.drain().stop_moving();
        self.routes.redirect_to(None);
        take(&self.returned)
            .into_iter()
            .for_each(|connection| finish(self.routes.handles(), connection, UnmovedReason::Refused));
    }

    fn resume(&mut self) {
        self.routes.redirect_to(None);
        self.routes.renew(take(&self.returned));
        self.announcer.serving_again();
    }

    async fn end(self, report: DrainReport, abort: impl Future<Output = &'static str>) -> DrainReport {
        self.routes.end(report, self.limit, abort).await
    }

    async fn shut_down(
        self,
        is_restart: bool,
        leave: impl Future<Output = ()>,
        abort: impl Future<Output = &'static str>,
    ) -> DrainReport {
        let Self { routes, announcer, fd_store, limit, .. } = self;
        if routes.current_drain().has_successor() {
            return tokio::join!(routes.end_beside(limit, abort), leave).0;
        }
        announcer.stopping();
        tokio::join!(fd_store.drain(routes, is_restart, limit, abort), leave).0
    }
}
