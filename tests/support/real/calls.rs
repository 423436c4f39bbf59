//! What becomes of the calls of some clients, counted while they run.

use std::{
    fmt, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::super::{
    place::Place,
    wait::{LIMIT, eventually},
};

/// What became of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Calls with the right answer: requests, gRPC calls, messages or events.
    pub(crate) answered: u64,
    /// Connections that the clients opened.
    pub(crate) opened: u64,
    /// Why a call has no answer, for each of those.
    pub(crate) lost: Vec<String>,
}

/// The calls of some clients.
#[derive(Default)]
pub(crate) struct Calls {
    outcome: Mutex<Outcome>,
    news: Condvar,
    stopped: Mutex<bool>,
    stops: Condvar,
    at_stop: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Calls {
    pub(crate) fn note_answered(&self, count: u64) {
        self.note(|outcome| outcome.answered += count);
    }

    pub(crate) fn note_opened(&self) {
        self.note(|outcome| outcome.opened += 1);
    }

    pub(crate) fn note_lost(&self, reason: impl fmt::Display) {
        self.note(|outcome| outcome.lost.push(reason.to_string()));
    }

    /// Notes one call.
    pub(crate) fn note_call(&self, called: Result<(), impl fmt::Display>) {
        match called {
            Ok(()) => self.note_answered(1),
            Err(reason) => self.note_lost(reason),
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.lock().expect("no client panics")
    }

    /// Returns after that time, or when the clients are to stop.
    pub(crate) fn pause(&self, time: Duration) {
        let going = self.stopped.lock().expect("no client panics");
        drop(self.stops.wait_timeout_while(going, time, |stopped| !*stopped));
    }

    /// Calls `act` when the clients are to stop, for one that does not look.
    pub(crate) fn at_stop(&self, act: impl FnOnce() + Send + 'static) {
        self.at_stop.lock().expect("no client panics").push(Box::new(act));
        if self.is_stopped() {
            self.stop();
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.lock().clone()
    }

    fn stop(&self) {
        *self.stopped.lock().expect("no client panics") = true;
        self.stops.notify_all();
        mem::take(&mut *self.at_stop.lock().expect("no client panics")).into_iter().for_each(|act| act());
    }

    fn note(&self, note: impl FnOnce(&mut Outcome)) {
        note(&mut self.lock());
        self.news.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().expect("no client panics")
    }
}

impl Outcome {
    /// Calls that have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.answered + self.lost.len() as u64
    }
}

/// Some clients that run; stopped when dropped, so that a failing test does not wait for them for ever.
pub(crate) struct Load {
    pub(crate) name: String,
    calls: Arc<Calls>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts so many threads of clients, each of which runs until the calls are stopped, and is given its number.
    pub(crate) fn start(
        name: impl Into<String>,
        place: &Place,
        threads: usize,
        run: impl Fn(usize, &Arc<Calls>) + Send + Sync + 'static,
    ) -> Self {
        let (calls, run) = (Arc::<Calls>::default(), Arc::new(run));
        let start = |number| {
            let (calls, run, place) = (Arc::clone(&calls), Arc::clone(&run), place.clone());
            thread::spawn(move || {
                place.enter();
                run(number, &calls);
            })
        };
        let threads = (0..threads).map(start).collect();
        Self { name: name.into(), calls, threads }
    }

    /// Returns when `more` calls have ended, well or not.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: u64) {
        let outcome = self.calls.lock();
        let enough = outcome.ended() + more;
        let waiting = |outcome: &mut Outcome| outcome.ended() < enough;
        let (outcome, late) = self.calls.news.wait_timeout_while(outcome, LIMIT, waiting).expect("no client panics");
        assert!(!late.timed_out(), "{}: no call ends any more: {outcome:?}", self.name);
    }

    /// Returns when the clients have opened so many connections, for a test that counts which of them move.
    #[track_caller]
    pub(crate) fn with_opened(self, connections: usize) -> Self {
        let opening = |outcome: &mut Outcome| outcome.opened < connections as u64;
        let waited = self.calls.news.wait_timeout_while(self.calls.lock(), LIMIT, opening);
        let (outcome, late) = waited.expect("no client panics");
        assert!(!late.timed_out(), "{}: not {connections} connections, but {outcome:?}", self.name);
        drop(outcome);
        self
    }

    /// What has become of the calls so far.
    pub(crate) fn outcome(&self) -> Outcome {
        self.calls.outcome()
    }

    /// Stops the clients, each after the call that it has under way: what became of all calls. Fails if a client hangs.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Outcome {
        self.calls.stop();
        for thread in mem::take(&mut self.threads) {
            eventually(&format!("a client of {} ends: {:?}", self.name, self.outcome()), || thread.is_finished());
            thread.join().expect("no client panics");
        }
        self.outcome()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.calls.stop();
    }
}
