//! From the first check to the last connection.

use std::{future::Future, iter, mem, time::Duration};

use tokio::time::sleep;

use super::{
    builder::Server,
    fd_store::FdStoreTask,
    handoff::service::ServerService,
    notify::{Announcer, IdleExit},
    routes::Routes,
    sink::TAKEN,
};
use crate::{
    drain::DrainReport,
    error::Error,
    handoff::{Coordinator, Signals, Stop, Takeover},
    listener::ActivatedListener,
    log,
    sys::table,
    unwind::Caught,
};

impl Server {
    pub(super) async fn run_announced(
        mut self,
        stop: impl Future<Output = ()>,
        announcer: &Announcer,
    ) -> Result<DrainReport, Error> {
        self.check_routes()?;
        ActivatedListener::check_runtime(&self.routes[0].name)?;
        // Panics without timers, and not only when the drain begins.
        drop(sleep(Duration::ZERO));
        table::raise_limit();
        let signals = mem::replace(&mut self.signals, Signals::none());
        let stop = Stop::new(self.drain.clone(), asked_to_stop(stop), signals);
        let (options, calls) = self.handoff.take();
        let mut coordinator = Coordinator::new(options, calls, stop, &self.activated, announcer.is_active())?;
        let (service, takeover) = self.start(&mut coordinator, announcer).await?;
        coordinator.start(&service, takeover).await;
        // It has room for a whole handoff, so it does not belong into the future of the caller.
        Ok(Box::pin(coordinator.run(service)).await)
    }

    /// Does all there is to do before the first connection is accepted.
    async fn start<'a, F: Future<Output = ()>>(
        mut self,
        coordinator: &mut Coordinator<F>,
        announcer: &'a Announcer,
    ) -> Result<(ServerService<'a>, Takeover), Error> {
        let fd_store = FdStoreTask::new(self.notify.notifier(), self.fd_store);
        let (limit, allow_unserved) = (self.drain_timeout, self.allow_unserved);
        let (ready, idle_exit) = (self.notify.ready(), self.notify.idle_exit);
        let stats = self.stats.clone();
        let service = |routes| ServerService::new(routes, stats, announcer, fd_store, limit);
        let Some(pending) = coordinator.join(&self.activated).await? else {
            return Ok((service(Routes::start(self.context(), iter::empty())), Takeover::Stopped));
        };
        let ((context, routes), pending) = pending.check(self.take())?;
        let idle_exit = IdleExit::new(idle_exit, routes.iter().map(|(_, _, listener)| listener));
        let accepts = routes.iter().map(|(_, _, listener)| (listener.shared_name(), TAKEN));
        let pending = pending.accepting(accepts.collect());
        let takeover = match coordinator.unless_stopped(ready).await {
            Some(ready) => coordinator.take_over(pending.check(ready)?.1).await?,
            None => {
                pending.leave();
                Takeover::Stopped
            }
        };
        if matches!(takeover, Takeover::Stopped) {
            return Ok((service(Routes::start(context, iter::empty())), takeover));
        }
        let mut service = service(Routes::start(context, routes.into_iter()));
        service.start(idle_exit, allow_unserved);
        Ok((service, takeover))
    }
}

/// Resolves when `stop` does.
async fn asked_to_stop(stop: impl Future<Output = ()>) {
    if let Err(panicked) = Caught::new(stop).await {
        // It can ask no more, and nothing else may be left that could: so it has asked.
        log::error!(%panicked, "the future that stops the server has panicked, draining");
    }
    log::info!("asked to stop, draining");
}
