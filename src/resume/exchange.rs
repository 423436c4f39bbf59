//! One exchange that a handler may resume, shared by the handler, the service that hyper calls, and the stream.
//!
//! The stream tells what passes, the service what is answered, and the drain when a handoff asks for it. The handler
//! leaves state. What moves is put together of all that.
//!
//! ```text
//! Asked ──► Answered ──► Upgraded ──► departed
//!       └─► Streaming ─► held ──────► departed
//!       └─► Over: an answer with an end, or one that cannot move
//! ```

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use axum::http::Response;
use tokio::{sync::Notify, task::consume_budget};

use super::{
    answer::Answer,
    error::{LeaveReason, NotMovable},
    known::Known,
    request::RequestHeaders,
    stage::{Refusal, Stage},
};
use crate::{
    drain::{Drain, UnmovedReason},
    handoff::Snapshot,
    idle_connection::ResumableRecord,
};

/// The longest state that a handler may leave.
pub(crate) const LONGEST_STATE: usize = 64 * 1024;

/// Where the connections of a route go.
pub(crate) trait Destination: Send + Sync + fmt::Debug {
    fn drain(&self) -> &Drain;

    /// Whether connections move there that a handler resumes.
    fn takes_resumable(&self) -> bool;
}

/// One request whose handler may leave it to the next process.
pub(crate) struct Exchange {
    /// The number of the request on its connection.
    call: u32,
    destination: Arc<dyn Destination>,
    request: Result<RequestHeaders, NotMovable>,
    resumed: Option<Predecessor>,
    /// How many futures of the handler wait to be asked to leave. While there is one, nothing is delivered behind the end of a message.
    watchers: AtomicUsize,
    inner: Mutex<Known>,
    changed: Notify,
}

/// What the process before has left.
struct Predecessor {
    answer: Answer,
    state: Snapshot,
}

/// A future of the handler that waits to be asked to leave.
pub(crate) struct Watching<'a>(&'a Exchange);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        if self.0.watchers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.wake_reader();
        }
    }
}

impl Exchange {
    /// A request that came from a client.
    pub(crate) fn new(
        call: u32,
        destination: Arc<dyn Destination>,
        request: Result<RequestHeaders, NotMovable>,
    ) -> Self {
        Self {
            call,
            destination,
            inner: Mutex::new(Known::new(request.as_ref().err().copied(), None)),
            request,
            resumed: None,
            watchers: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    /// A request that another process has left: the first one of its connection here.
    pub(crate) fn resume(destination: Arc<dyn Destination>, record: ResumableRecord) -> Self {
        let ResumableRecord { method, target, headers, status, answer, state, state_version } = record;
        let state = Snapshot::new(state_version, state);
        let request = RequestHeaders { method, target, headers };
        let mut this = Self::new(1, destination, Ok(request));
        this.inner = Mutex::new(Known::new(None, Some(state.clone())));
        this.resumed = Some(Predecessor { answer: Answer { status, headers: answer }, state });
        this
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the request on its connection.
    pub(crate) fn call(&self) -> u32 {
        self.call
    }

    pub(crate) fn drain(&self) -> &Drain {
        self.destination.drain()
    }

    /// The request headers, if they can be sent again.
    pub(crate) fn request(&self) -> Result<&RequestHeaders, NotMovable> {
        self.request.as_ref().map_err(|reason| *reason)
    }

    pub(crate) fn stage(&self) -> Stage {
        self.lock().stage
    }

    /// A handler asks for `Resume`.
    pub(crate) fn take(&self) {
        let mut inner = self.lock();
        if !inner.taken && self.resumed.is_none() && inner.stage != Stage::Asked {
            inner.not_movable.get_or_insert(NotMovable::TooLate);
        }
        inner.taken = true;
    }

    /// Whether the process before has left it.
    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed.is_some()
    }

    /// What the handler in the process before has left; `None` where it has saved nothing.
    pub(crate) fn state(&self) -> Option<&Snapshot> {
        let state = self.resumed.as_ref().map(|resumed| &resumed.state);
        state.filter(|state| state.version() != 0 || !state.bytes().is_empty())
    }

    /// Whether the client of the process before speaks WebSocket.
    pub(crate) fn resumes_websocket(&self) -> bool {
        self.resumed.as_ref().is_some_and(|resumed| resumed.answer.is_websocket())
    }

    /// The answer, if it is a switch of protocols that can move.
    pub(crate) fn upgrade(&self) -> Option<Answer> {
        let inner = self.lock();
        inner.answer.clone().filter(|answer| inner.taken && answer.is_upgrade())
    }

    /// The handler has answered. True if the body is a stream that can move.
    pub(crate) fn note_answer<B: http_body::Body>(&self, response: &Response<B>) -> bool {
        let answer = Answer::of(response);
        let mut inner = self.lock();
        let is_same = self.resumed.as_ref().is_none_or(|resumed| answer.as_ref() == Ok(&resumed.answer));
        if self.is_resumed() && !inner.taken {
            inner.refusal.get_or_insert(Refusal::NotTaken);
        } else if !is_same {
            inner.refusal.get_or_insert(Refusal::OtherAnswer);
        }
        let is_upgrade = response.status() == axum::http::StatusCode::SWITCHING_PROTOCOLS;
        match answer {
            Ok(answer) => inner.answer = Some(answer),
            Err(reason) => _ = inner.not_movable.get_or_insert(reason),
        }
        inner.stage = match () {
            () if inner.refusal.is_some() => Stage::Over,
            () if is_upgrade => Stage::Answered,
            () if inner.taken && inner.not_movable.is_none() => Stage::Streaming,
            () => Stage::Over,
        };
        let is_stream = inner.stage == Stage::Streaming;
        drop(inner);
        self.changed.notify_waiters();
        is_stream
    }

    /// Notes why it cannot go on here; the first reason stands.
    pub(crate) fn refuse(&self, refusal: Refusal) -> Refusal {
        let mut inner = self.lock();
        inner.stage = Stage::Over;
        *inner.refusal.get_or_insert(refusal)
    }

    /// Whether it waits for the answer of the resumed handler, or has got a wrong one: nothing of the client may be delivered.
    pub(crate) fn is_unapproved(&self) -> bool {
        let inner = self.lock();
        self.is_resumed() && (inner.stage == Stage::Asked || inner.refusal.is_some())
    }

    /// The handler has the stream from now on.
    pub(crate) fn note_upgraded(&self) {
        self.lock().stage = Stage::Upgraded;
        self.note_change();
    }

    /// Bytes of the client were delivered; a message of it is open or not.
    pub(crate) fn note_delivered(&self, message_open: bool) {
        let mut inner = self.lock();
        inner.waits = false;
        inner.reads_message = message_open;
    }

    /// The handler has asked for more, and there is nothing.
    pub(crate) fn note_waits(&self) {
        let changed = !std::mem::replace(&mut self.lock().waits, true);
        if changed {
            self.note_change();
        }
    }

    /// The handler has written; a message of it is open or not.
    pub(crate) fn note_written(&self, message_open: bool) {
        self.lock().writes_message = message_open;
    }

    /// It cannot move any more.
    pub(crate) fn note_not_movable(&self, reason: NotMovable) {
        self.lock().not_movable.get_or_insert(reason);
        self.note_change();
    }

    /// Wakes a handler that waits for a handoff, once one has started.
    fn note_change(&self) {
        if self.drain().has_started() {
            self.changed.notify_waiters();
        }
    }

    /// Why it cannot move; `None` as long as it can.
    pub(crate) fn not_movable(&self) -> Option<NotMovable> {
        let inner = self.lock();
        inner.not_movable.or_else(|| (inner.stage == Stage::Over).then_some(NotMovable::NoStream))
    }

    /// Why an upgraded connection that ends here did not move. `None` if one side has ended it, or if that is not for the exchange to say:
    /// no connection moves any more.
    pub(crate) fn unmoved(&self) -> Option<UnmovedReason> {
        let (inner, moves) = (self.lock(), self.drain().moves());
        match inner.not_movable {
            _ if !inner.taken => Some(UnmovedReason::NotResumable),
            _ if inner.leaves_too_much => Some(UnmovedReason::StateTooLong),
            Some(NotMovable::Tls) => Some(UnmovedReason::Tls),
            Some(NotMovable::Frames) => Some(UnmovedReason::NotUnderstood),
            None | Some(NotMovable::Closing) if moves && !self.destination.takes_resumable() => {
                Some(UnmovedReason::NotTaken)
            }
            None if moves => Some(UnmovedReason::Stayed),
            None | Some(NotMovable::Closing | NotMovable::Returned) => None,
            Some(_) => Some(UnmovedReason::NotResumable),
        }
    }

    /// Whether a handoff asks for it, and the destination takes it.
    pub(crate) fn is_asked(&self) -> bool {
        self.drain().moves() && self.not_movable().is_none() && self.destination.takes_resumable()
    }

    /// The handler waits to be asked to leave, as long as the guard lives.
    pub(crate) fn watch(&self) -> Watching<'_> {
        self.watchers.fetch_add(1, Ordering::SeqCst);
        Watching(self)
    }

    /// Whether nothing is delivered behind the end of a message.
    pub(crate) fn is_gated(&self) -> bool {
        self.watchers.load(Ordering::SeqCst) > 0 && self.is_asked()
    }

    /// Keeps the waker of a reader that is shown nothing behind the end of a message. False if it may read after all.
    pub(crate) fn hold_reader(&self, waker: &Waker) -> bool {
        self.lock().held_reader = Some(waker.clone());
        // After it is kept: what ends the wait either finds it, or is seen here.
        self.is_gated()
    }

    /// Wakes that reader if it may read on.
    fn wake_reader(&self) {
        if self.is_gated() {
            return;
        }
        let reader = self.lock().held_reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether the handler may leave now.
    fn may_leave(&self) -> bool {
        let (stage, waits, reads_message) = {
            let inner = self.lock();
            (inner.stage, inner.waits, inner.reads_message)
        };
        let is_between = match stage {
            Stage::Upgraded => waits && !reads_message,
            Stage::Streaming => true,
            _ => false,
        };
        is_between && self.is_asked()
    }

    /// Resolves when the handler may leave.
    pub(crate) async fn requested(&self) {
        self.until(Self::may_leave).await;
    }

    /// Resolves when the service ends and the exchange does not move, unless it is at its end already.
    pub(crate) async fn closing(&self) {
        let is_closing = |this: &Self| this.not_movable() == Some(NotMovable::Closing);
        self.until(|this| this.drain().has_started() && !this.is_asked() && !is_closing(this)).await;
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        self.drain().started().await;
        loop {
            let mut changed = pin!(self.changed.notified());
            let mut stopped = pin!(self.drain().stopped_moving());
            changed.as_mut().enable();
            stopped.as_mut().enable();
            if condition(self) {
                // A handler that asks again and again must let others run.
                return consume_budget().await;
            }
            tokio::select! {
                () = changed => {}
                () = stopped => {}
            }
            self.wake_reader();
        }
    }

    /// Whether the handler may leave with this state, before what it has written is flushed.
    pub(crate) fn check_leave(&self, state: &Snapshot) -> Result<(), LeaveReason> {
        let mut inner = self.lock();
        let not_movable = inner.not_movable.or((inner.stage != Stage::Upgraded).then_some(NotMovable::NoStream));
        // The handler of a WebSocket may have messages that it has not seen in the buffer of the library that reads ahead for it.
        let is_unread = !inner.waits && inner.answer.as_ref().is_some_and(Answer::is_websocket);
        let message_open = inner.reads_message || is_unread;
        inner.leaves_too_much = state.bytes().len() > LONGEST_STATE;
        drop(inner);
        match not_movable {
            Some(reason) => Err(LeaveReason::NotMovable(reason)),
            None if state.bytes().len() > LONGEST_STATE => Err(LeaveReason::StateTooLong),
            None if !self.is_asked() => Err(LeaveReason::NotRequested),
            None if message_open => Err(LeaveReason::MessageOpen),
            None => Ok(()),
        }
    }

    /// Lets the connection move when its socket is dropped.
    pub(crate) fn arm(&self, state: Snapshot) -> Result<(), LeaveReason> {
        self.check_leave(&state)?;
        let mut inner = self.lock();
        if inner.writes_message {
            return Err(LeaveReason::MessageOpen);
        }
        inner.armed = Some(state);
        Ok(())
    }

    /// What moves now that the socket is dropped; `None` if the handler has not left.
    pub(crate) fn depart(&self) -> Option<ResumableRecord> {
        let mut inner = self.lock();
        let state = inner.armed.take()?;
        let answer = inner.answer.clone()?;
        inner.departed = true;
        self.record(&answer, &state)
    }

    /// Takes back [`arm`](Self::arm), unless the connection has gone. True if it has.
    pub(crate) fn disarm(&self) -> bool {
        let mut inner = self.lock();
        inner.armed = None;
        inner.departed
    }

    /// Keeps what the handler of a stream would leave now.
    pub(crate) fn save(&self, state: Snapshot) -> Result<(), LeaveReason> {
        if state.bytes().len() > LONGEST_STATE {
            return Err(LeaveReason::StateTooLong);
        }
        self.lock().saved = Some(state);
        Ok(())
    }

    /// The body ends for the next process from here, if it can move.
    pub(crate) fn leave_stream(&self) {
        self.lock().leaves = true;
    }

    /// Whether the body ends for the next process.
    pub(crate) fn is_leaving(&self) -> bool {
        self.lock().leaves && self.is_asked()
    }

    /// The body has ended. True if the client is not to see it, as the next process goes on.
    pub(crate) fn hold_end(&self) -> bool {
        let is_asked = self.is_asked();
        let mut inner = self.lock();
        let holds = inner.leaves && is_asked && matches!(inner.stage, Stage::Streaming | Stage::Held);
        inner.stage = if holds { Stage::Held } else { Stage::Over };
        holds
    }

    /// What moves of a stream whose end is held.
    pub(crate) fn held(&self) -> Option<ResumableRecord> {
        let inner = self.lock();
        let answer = inner.answer.as_ref().filter(|_| inner.stage == Stage::Held)?;
        self.record(answer, inner.saved.as_ref().unwrap_or(&Snapshot::new(0, "")))
    }

    fn record(&self, answer: &Answer, state: &Snapshot) -> Option<ResumableRecord> {
        let RequestHeaders { method, target, headers } = self.request.as_ref().ok()?.clone();
        let Answer { status, headers: answer } = answer.clone();
        let (state, state_version) = (state.bytes().to_vec(), state.version());
        Some(ResumableRecord { method, target, headers, status, answer, state, state_version })
    }
}

/// Without the headers and the state of the service, as handlers that log their arguments would log them.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("call", &self.call).field("stage", &self.stage()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Next {
        drain: Drain,
        takes: bool,
    }

    impl Destination for Next {
        fn drain(&self) -> &Drain {
            &self.drain
        }

        fn takes_resumable(&self) -> bool {
            self.takes
        }
    }

    /// An upgraded connection at a handoff.
    fn upgraded(takes: bool) -> (Exchange, Drain) {
        let drain = Drain::new();
        drain.start_succession(true);
        let request = RequestHeaders { method: "GET".into(), target: "/".into(), headers: Vec::new() };
        let exchange = Exchange::new(1, Arc::new(Next { drain: drain.clone(), takes }), Ok(request));
        exchange.take();
        exchange.note_upgraded();
        (exchange, drain)
    }

    #[test]
    fn an_exchange_that_ends_says_why_it_has_not_moved() {
        let (stays, drain) = upgraded(true);
        assert_eq!(stays.unmoved(), Some(UnmovedReason::Stayed));
        let state = Snapshot::new(1, vec![0; LONGEST_STATE + 1]);
        assert!(matches!(stays.check_leave(&state), Err(LeaveReason::StateTooLong)));
        assert_eq!(stays.unmoved(), Some(UnmovedReason::StateTooLong));
        assert!(stays.check_leave(&Snapshot::new(1, vec![0; LONGEST_STATE])).is_ok());
        drain.stop_moving();
        assert_eq!(stays.unmoved(), None, "no connection moves any more");

        assert_eq!(upgraded(false).0.unmoved(), Some(UnmovedReason::NotTaken));
        for (reason, takes, expected) in [
            (NotMovable::Frames, true, Some(UnmovedReason::NotUnderstood)),
            (NotMovable::Extension, true, Some(UnmovedReason::NotResumable)),
            (NotMovable::Closing, true, None),
            (NotMovable::Closing, false, Some(UnmovedReason::NotTaken)),
        ] {
            let (exchange, _) = upgraded(takes);
            exchange.note_not_movable(reason);
            assert_eq!(exchange.unmoved(), expected, "{reason}");
        }
        let not_asked_for = Exchange::new(1, upgraded(true).0.destination, Err(NotMovable::RequestBody));
        assert_eq!(not_asked_for.unmoved(), Some(UnmovedReason::NotResumable));
    }

    #[test]
    fn a_web_socket_leaves_only_when_its_handler_has_asked_for_more_than_there_is() {
        let (exchange, _drain) = upgraded(true);
        let headers = vec![("upgrade".to_owned(), b"websocket".to_vec())];
        exchange.lock().answer = Some(Answer { status: 101, headers });
        let state = Snapshot::new(1, "");
        exchange.note_delivered(false);
        for refused in [exchange.check_leave(&state), exchange.arm(state.clone())] {
            assert!(matches!(refused, Err(LeaveReason::MessageOpen)), "the library may hold messages");
        }
        exchange.note_waits();
        exchange.arm(state).unwrap();
    }

    #[test]
    fn a_reader_is_held_only_while_a_future_waits_to_be_asked() {
        let (exchange, drain) = upgraded(true);
        assert!(!exchange.is_gated());
        let (first, second) = (exchange.watch(), exchange.watch());
        let (waker, wakes) = counting_waker();
        assert!(exchange.hold_reader(&waker));
        drop(first);
        assert_eq!((exchange.is_gated(), wakes()), (true, 0));
        drop(second);
        assert_eq!((exchange.is_gated(), wakes()), (false, 1));
        let _watching = exchange.watch();
        drain.stop_moving();
        assert!(!exchange.hold_reader(&waker), "no connection moves any more");
    }

    /// A waker, and how often it was woken.
    fn counting_waker() -> (Waker, impl Fn() -> usize) {
        struct Count(AtomicUsize);

        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }

        let count = Arc::new(Count(AtomicUsize::new(0)));
        (Waker::from(Arc::clone(&count)), move || count.0.load(Ordering::SeqCst))
    }

    #[test]
    fn what_the_client_and_the_service_have_said_is_not_printed() {
        let headers = vec![("cookie".to_owned(), b"secret".to_vec())];
        let request = RequestHeaders { method: "GET".into(), target: "/?secret".into(), headers: headers.clone() };
        let (other, _drain) = upgraded(true);
        let exchange = Exchange::new(1, other.destination, Ok(request));
        exchange.lock().answer = Some(Answer { status: 101, headers });
        exchange.save(Snapshot::new(1, "secret")).unwrap();
        let answer = exchange.lock().answer.clone();
        let printed = format!("{exchange:?} {answer:?}");
        assert!(printed.contains("101") && !printed.contains("secret"), "{printed}");
    }
}
