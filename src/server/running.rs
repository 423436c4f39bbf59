//! From the first check to the last connection.

use std::{future::Future, mem, pin::Pin, time::Duration};

use tokio::time::sleep;

use super::{
    builder::Server,
    fd_store::FdStoreTask,
    notify::{Announcer, IdleExit},
    routes::{Routes, ServerContext},
    signals::{Heard, Signals},
    succession::{Ending, HandedOver, Succeeded, Succession},
};
use crate::{
    drain::{Drain, DrainReport, Stats},
    error::Error,
    handoff::{
        joining::{Arriving, Awaited, Coming},
        requests::Request,
        ties::Joins,
    },
    listener::ActivatedListener,
    log,
    sys::{table, terminal::Terminal},
    unwind::Caught,
};

/// What ends a server.
struct Stop<F> {
    drain: Drain,
    asked: Option<Pin<Box<Caught<F>>>>,
    signals: Signals,
    /// The service manager has told it.
    is_managed: bool,
}

/// A server that has all it needs.
struct Started {
    serving: Routes,
    idle_exit: IdleExit,
    /// It was told to stop before it accepted anything.
    is_stopped: bool,
    coming: Option<Coming>,
}

/// What happens to a server that serves.
enum Event {
    /// Nothing comes any more, or it was told to stop.
    End,
    /// Somebody asks for a handoff.
    Asked(Request),
}

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
        let mut succession = self.succession();
        succession.decide_spawn(&self.activated, announcer.is_active())?;
        let terminal = Terminal::note();
        succession.install_signals()?;
        let mut signals = mem::replace(&mut self.signals, Signals::none());
        signals.install()?;
        let mut stop =
            Stop { drain: self.drain.clone(), asked: Some(Box::pin(Caught::new(stop))), signals, is_managed: false };
        let mut fd_store = FdStoreTask::new(self.notify.notifier(), self.fd_store);
        let (limit, stats, allow_unserved) = (self.drain_timeout, self.stats.clone(), self.allow_unserved);
        let Started { mut serving, idle_exit, is_stopped, coming } = self.start(&mut succession, &mut stop).await?;
        let mut serves = false;
        if !is_stopped {
            succession.begin(coming, &serving, allow_unserved);
            fd_store.begin(&serving);
            tokio::select! {
                biased;
                () = succession.open_place(&serving) => {
                    announcer.ready();
                    serves = true;
                }
                () = stop.started() => {}
            }
        }
        // Every wait from here on is a branch beside the signals.
        while serves {
            let event = tokio::select! {
                () = until_end(&serving, &idle_exit, &stats, &mut stop) => Event::End,
                request = succession.requested() => Event::Asked(request),
            };
            let Event::Asked(request) = event else { break };
            if request.is_hangup() && terminal.has_hung_up() {
                log::info!("the terminal is gone, draining");
                break;
            }
            let handed = succession.hand_over(request, &serving, &mut fd_store, announcer, stop.started()).await;
            let ending = Ending { signals: &mut stop.signals, is_managed: announcer.is_active(), limit };
            match handed {
                HandedOver::Failed => {
                    if succession.take_refused_hangup() && terminal.has_hung_up() {
                        log::info!("the terminal is gone, draining");
                        break;
                    }
                }
                HandedOver::Stopped => serves = false,
                HandedOver::Plainly(pid) => {
                    fd_store.leave_plainly(&serving);
                    return Ok(succession.leave_plainly(pid, serving, announcer, ending).await);
                }
                HandedOver::Moving(moving) => {
                    serving = match succession.move_out(serving, moving, ending).await {
                        Succeeded::Over(report) => return Ok(report),
                        Succeeded::Back(serving) => serving,
                    };
                    stop.drain = serving.current_drain().clone();
                    tokio::select! {
                        biased;
                        () = succession.take_place_again(&serving) => {}
                        () = stop.started() => serves = false,
                    }
                }
            }
        }
        if serving.current_drain().has_successor() {
            let heard = Heard::default();
            let ended = serving.end_beside(limit, heard.aborted());
            return tokio::select! {
                report = succession.leave_while(ended, &heard) => Ok(report),
                never = stop.signals.watch_drain(&heard) => match never {},
            };
        }
        announcer.stopping();
        let lasts = !is_stopped && stop.is_managed;
        let heard = Heard::default();
        let drained = fd_store.drain(serving, lasts, limit, heard.aborted());
        tokio::select! {
            report = succession.leave_while(drained, &heard) => Ok(report),
            never = stop.signals.watch_drain(&heard) => match never {},
        }
    }

    /// Does all there is to do before the first connection is accepted.
    async fn start<F: Future<Output = ()>>(
        mut self,
        succession: &mut Succession,
        stop: &mut Stop<F>,
    ) -> Result<Started, Error> {
        let arriving = match succession.join(&self.activated, stop.started()).await? {
            Joins::After(arriving) => Some(arriving),
            Joins::Alone => None,
            Joins::Stopped => return Ok(Started::stopped(self.common())),
        };
        let (ready, idle_exit) = (self.notify.ready(), self.notify.idle_exit);
        let taken = or_fail(self.take(), arriving);
        let ((common, routes), arriving) = taken?;
        let idle_exit = IdleExit::new(idle_exit, routes.iter().map(|(_, _, listener)| listener));

        let is_ready = tokio::select! {
            biased;
            ready = ready => Some(ready),
            () = stop.started() => None,
        };
        let awaited = match is_ready {
            Some(ready) => match or_fail(ready, arriving)? {
                ((), None) => Awaited::Committed(None),
                ((), Some(arriving)) => arriving.ready_unless(stop.started()).await?,
            },
            None => {
                if let Some(arriving) = arriving {
                    arriving.leave();
                }
                Awaited::Stopped
            }
        };
        match awaited {
            Awaited::Stopped => Ok(Started::stopped(common)),
            Awaited::Committed(coming) => {
                let serving = Routes::start(common, routes.into_iter());
                Ok(Started { serving, idle_exit, is_stopped: false, coming })
            }
        }
    }
}

impl Started {
    /// A server that accepts nothing.
    fn stopped(common: ServerContext) -> Self {
        let serving = Routes::start(common, std::iter::empty());
        Self { serving, idle_exit: IdleExit::new(None, []), is_stopped: true, coming: None }
    }
}

/// Tells the predecessor of an error, if there is one.
fn or_fail<T>(outcome: Result<T, Error>, arriving: Option<Arriving>) -> Result<(T, Option<Arriving>), Error> {
    match (outcome, arriving) {
        (Ok(value), arriving) => Ok((value, arriving)),
        (Err(error), Some(arriving)) => {
            arriving.fail(&error);
            Err(error)
        }
        (Err(error), None) => Err(error),
    }
}

/// Resolves when nothing comes any more, or something asks the server to end.
async fn until_end<F: Future<Output = ()>>(serving: &Routes, idle_exit: &IdleExit, stats: &Stats, stop: &mut Stop<F>) {
    tokio::select! {
        () = serving.exhausted() => {}
        () = idle_exit.has_left(serving, stats) => log::info!("nobody was here for a while, leaving"),
        () = stop.started() => {}
    }
}

impl<F: Future<Output = ()>> Stop<F> {
    /// Resolves when something asks the server to end.
    ///
    /// # Cancel safety
    ///
    /// It only waits; drop it and ask again.
    async fn started(&mut self) {
        let Self { drain, asked, signals, is_managed } = self;
        let asked_to = async {
            match asked {
                Some(stop) => {
                    if let Err(panicked) = stop.await {
                        // It can ask no more, and nothing else may be left that could: so it has asked.
                        log::error!(%panicked, "the future that stops the server has panicked, draining");
                    }
                    *asked = None;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = drain.started() => log::info!("draining"),
            () = asked_to => log::info!("asked to stop, draining"),
            signal = signals.first() => {
                *is_managed = signal == "SIGTERM";
                log::info!(signal, "draining");
            }
        }
    }
}
