//! What is known of one connection, shared by its loop, its stream, its service and its bodies.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering, fence},
    },
    task::{Context, Poll, Waker},
};

use super::{context::RouteContext, move_outcome::MoveOutcome, slot::ExchangeSlot};
use crate::{
    addr::PeerAddr,
    drain::{CloseReason, ConnectionKind, UnmovedReason},
    idle_connection::Times,
    log,
    server::reaper::IdleEntry,
};

/// The connection has reached its age: the next response is the last one.
const CLOSE_AFTER_RESPONSE: u8 = 1;
/// The connection has been idle for as long as it may.
const CLOSE_IDLE: u8 = 2;
/// hyper is to start anew, for one request alone.
const RESTART: u8 = 4;

/// The code of a close reason that is `Moved`, of the first kind.
const MOVED: u8 = 5;

/// Which task drops a part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DroppedBy {
    /// The one that drives the connection.
    Connection,
    /// That one or another.
    Any,
}

/// What is known of one connection.
///
/// One task drives a connection, and most of this is written and read by that task alone. An atomic is then only a cell
/// that may be shared, and `Relaxed` is enough. What other threads see of it:
///
/// | field | written by | read by | ordering |
/// | --- | --- | --- | --- |
/// | `answering` | the connection's task, with HTTP/2 any task | the connection's task; the reaper | the decrement is `Release`, the load `Acquire` |
/// | `held` | any task | the connection's task; the reaper | the decrement is `Release`, the load `Acquire` |
/// | `calls`, `has_streams` | the connection's task | that task; the reaper | `Relaxed`: a late value is one more busy tick |
/// | `asked` | the reaper | the connection's task | `Relaxed`: the reaper wakes the task after it, and waking orders both |
/// | `close_reason`, `unmoved` | whichever task ends the connection | the guard, when it is dropped | `Relaxed`: each is a value of its own |
/// | all others | the connection's task | that task | `Relaxed` |
///
/// Why the decrements are `Release`: a thread that finds the connection idle goes on to read what was read from it
/// meanwhile (`reads_when_idle`). Without it, it could see the zero and the old count, and take bytes that belong to
/// the last request for the beginning of the next one. `held` counts what another task may drop, as a handler gives the
/// body of a request away. With HTTP/2 streams run in tasks of their own.
///
/// hyper waits for the end of a body that it has not read to its end, and for no other. So what is dropped
/// elsewhere wakes the connection itself, if that is to leave. Either that task sees it, or the connection sees
/// that it is idle: each writes, then has a `SeqCst` fence, and then reads what the other wrote. With anything weaker
/// both could miss the other's write, and the connection would sleep until the deadline of the drain.
#[derive(Debug)]
pub(super) struct State {
    pub(super) route: Arc<RouteContext>,
    pub(super) peer: PeerAddr,
    /// As the connection came here.
    pub(super) times: Times,
    /// Service futures and response bodies that are alive. With HTTP/1 the connection's own task alone makes and drops them.
    answering: AtomicU32,
    /// Bodies of requests that are alive.
    held: AtomicU32,
    /// Requests so far.
    calls: AtomicU32,
    /// Reads so far that brought bytes, and what they were when the connection last became idle.
    reads: AtomicU32,
    reads_when_idle: AtomicU32,
    /// The last write-side call on the stream was a flush; hyper flushes with an empty write buffer only.
    flushed: AtomicBool,
    /// Our side is closed, or is being closed.
    shut: AtomicBool,
    /// The last request had a body, so more of it may still come.
    had_body: AtomicBool,
    /// The client has closed its side.
    ended: AtomicBool,
    /// The number of the last request whose body was not read to its end.
    unread_body: AtomicU32,
    /// A request asked for an upgrade: from then on the stream may belong to other code.
    may_upgrade: AtomicBool,
    /// What the reaper asks for, [`CLOSE_AFTER_RESPONSE`] and [`CLOSE_IDLE`], and [`RESTART`].
    asked: AtomicU8,
    /// HTTP/2: a stream is open on the wire. Its response may have left the service, and be on its way to the client.
    has_streams: AtomicBool,
    /// HTTP/2: what has become of its move.
    pub(super) move_outcome: MoveOutcome,
    close_reason: AtomicU8,
    /// Why it does not move: the number of the reason and one, or 0.
    unmoved: AtomicU8,
    /// Of the task that drives the connection: HTTP/2 has another one than what finds out the protocol.
    waker: Mutex<Option<Waker>>,
    /// What a handler may leave to the next process.
    pub(super) slot: ExchangeSlot,
}

impl State {
    pub(super) fn new(route: Arc<RouteContext>, peer: PeerAddr, times: Times) -> Self {
        Self {
            route,
            peer,
            times,
            answering: AtomicU32::new(0),
            held: AtomicU32::new(0),
            calls: AtomicU32::new(0),
            reads: AtomicU32::new(0),
            reads_when_idle: AtomicU32::new(0),
            flushed: AtomicBool::new(true),
            shut: AtomicBool::new(false),
            had_body: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            unread_body: AtomicU32::new(0),
            may_upgrade: AtomicBool::new(false),
            asked: AtomicU8::new(0),
            has_streams: AtomicBool::new(false),
            move_outcome: MoveOutcome::default(),
            close_reason: AtomicU8::new(0),
            unmoved: AtomicU8::new(0),
            waker: Mutex::default(),
            slot: ExchangeSlot::default(),
        }
    }

    /// A request begins.
    #[inline]
    pub(super) fn call(&self, has_body: bool, by: DroppedBy) {
        self.hold(by);
        self.calls.store(self.calls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.had_body.store(has_body, Ordering::Relaxed);
    }

    /// A request is being answered, until that task drops the answer.
    #[inline]
    fn hold(&self, by: DroppedBy) {
        match by {
            DroppedBy::Connection => {
                self.answering.store(self.answering.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            DroppedBy::Any => _ = self.answering.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The answer is dropped.
    #[inline]
    pub(super) fn release(&self, by: DroppedBy) {
        self.reads_when_idle.store(self.reads.load(Ordering::Relaxed), Ordering::Relaxed);
        match by {
            DroppedBy::Connection => {
                self.answering.store(self.answering.load(Ordering::Relaxed) - 1, Ordering::Release);
            }
            DroppedBy::Any => {
                self.answering.fetch_sub(1, Ordering::Release);
                self.wake_if_leaving();
            }
        }
    }

    /// The body of a request is alive.
    #[inline]
    pub(super) fn hold_body(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// It is dropped, by any task.
    #[inline]
    pub(super) fn release_body(&self) {
        self.reads_when_idle.store(self.reads.load(Ordering::Relaxed), Ordering::Relaxed);
        self.held.fetch_sub(1, Ordering::Release);
        self.wake_if_leaving();
    }

    #[inline]
    fn wake_if_leaving(&self) {
        fence(Ordering::SeqCst);
        if self.is_leaving() && self.answering.load(Ordering::Acquire) == 0 {
            self.wake();
        }
    }

    /// HTTP/2: ready when no stream is answered any more. The connection has ended, and its streams are about to.
    pub(super) fn poll_answered(&self, cx: &Context<'_>) -> Poll<()> {
        if self.answering.load(Ordering::Acquire) != 0 {
            self.note_waker(cx.waker());
            // The last one wakes a connection that leaves.
            self.close_after_response();
            fence(Ordering::SeqCst);
        }
        if self.answering.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    #[cold]
    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Has the task of `waker` woken when the last body is dropped of a connection that is to leave, and no other one any more. A task
    /// keeps one waker all its life.
    pub(super) fn note_waker(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// As [`is_leaving`](Self::is_leaving); what is asked of the connection after it is not older than that.
    pub(super) fn is_leaving_now(&self) -> bool {
        let is_leaving = self.is_leaving();
        fence(Ordering::SeqCst);
        is_leaving
    }

    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.answering.load(Ordering::Acquire) != 0 || self.held.load(Ordering::Acquire) != 0
    }

    /// How many requests there were; wraps, and is only compared.
    #[inline]
    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn note_read(&self) {
        // HTTP/2 reads and calls from one task as well, so load and store do not lose a count.
        self.reads.store(self.reads.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether the beginning of the next request has come, and is all there is to be done.
    ///
    /// What comes while a response is still being sent waits for that, so it is not slow.
    #[inline]
    pub(super) fn is_reading_headers(&self) -> bool {
        !self.is_busy() && self.has_started_headers() && self.has_sent_all()
    }

    /// Whether bytes have come since the last request was done: the beginning of the next one.
    #[inline]
    fn has_started_headers(&self) -> bool {
        self.reads.load(Ordering::Relaxed) != self.reads_when_idle.load(Ordering::Relaxed)
    }

    /// What was read so far is no part of a request.
    #[cfg(feature = "tls")]
    pub(super) fn forget_reads(&self) {
        self.reads_when_idle.store(self.reads.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether the kernel has all of the last response, and more may follow.
    fn has_sent_all(&self) -> bool {
        self.is_flushed() && !self.is_shut()
    }

    #[inline]
    pub(super) fn note_flushed(&self, flushed: bool) {
        self.flushed.store(flushed, Ordering::Relaxed);
    }

    /// Whether hyper was last seen to have nothing to write.
    #[inline]
    pub(super) fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Relaxed)
    }

    /// The number of requests so far; `None` while one is being answered. If it is the same before and after a poll of hyper, hyper has
    /// seen the end of every request.
    #[inline]
    pub(super) fn calls_if_quiet(&self) -> Option<u32> {
        (!self.is_busy()).then(|| self.calls())
    }

    /// Whether hyper holds nothing that cannot be taken out of it: at most the beginning of a head.
    pub(super) fn is_movable(&self) -> bool {
        !self.is_busy() && self.has_sent_all()
    }

    /// Whether nothing of a request or a response is anywhere in this process, but for bytes that hyper may have read ahead.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_busy() && !self.has_started_headers() && self.has_sent_all()
    }

    /// As [`is_idle`](Self::is_idle), of HTTP/2: no stream is open either, so the client has every response.
    pub(super) fn is_idle_http2(&self) -> bool {
        !self.is_busy() && !self.has_streams.load(Ordering::Relaxed) && !self.is_shut()
    }

    /// HTTP/2: notes whether a stream is open on the wire.
    #[inline]
    pub(super) fn note_streams(&self, has_streams: bool) {
        self.has_streams.store(has_streams, Ordering::Relaxed);
    }

    pub(super) fn note_shut(&self) {
        self.shut.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    pub(super) fn had_body(&self) -> bool {
        self.had_body.load(Ordering::Relaxed)
    }

    /// The body of the last request was dropped before its end.
    pub(super) fn note_unread_body(&self) {
        self.unread_body.store(self.calls(), Ordering::Relaxed);
    }

    /// Whether the body of the last request was dropped before its end, and the client may still send the rest of it.
    pub(super) fn has_unread_body(&self) -> bool {
        let is_unread = self.had_body() && self.unread_body.load(Ordering::Relaxed) == self.calls();
        is_unread && !self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn note_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_upgrade(&self) {
        self.may_upgrade.store(true, Ordering::Relaxed);
    }

    /// The stream belongs to the connection after all.
    pub(super) fn forget_upgrade(&self) {
        self.may_upgrade.store(false, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn may_upgrade(&self) -> bool {
        self.may_upgrade.load(Ordering::Relaxed)
    }

    /// Whether the reaper has asked for anything.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != 0
    }

    /// Whether the reaper has found it idle; asked once.
    pub(super) fn take_close_idle(&self) -> bool {
        self.asked.fetch_and(!CLOSE_IDLE, Ordering::Relaxed) & CLOSE_IDLE != 0
    }

    /// Lets hyper be taken apart before the request is answered that it has just read.
    pub(super) fn ask_restart(&self) {
        self.asked.fetch_or(RESTART, Ordering::Relaxed);
    }

    /// Whether hyper is to start anew; asked once.
    pub(super) fn take_restart(&self) -> bool {
        self.asked.fetch_and(!RESTART, Ordering::Relaxed) & RESTART != 0
    }

    /// Whether the next response is the last one.
    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        let RouteContext { drain, .. } = &*self.route;
        // What speaks TLS does not move with the others.
        self.closes_after_response() || drain.closes() || (self.route.is_encrypted() && drain.has_started())
    }

    /// Whether the connection is to leave this process when it can: to end, or to move.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        self.closes_after_response() || self.route.drain.has_started()
    }

    /// Whether it leaves by moving: to a successor, or to the fd store. Otherwise it ends here.
    pub(super) fn moves(&self) -> bool {
        !self.closes_after_response() && self.route.drain.moves()
    }

    /// HTTP/2: it cannot move, and ends here instead.
    pub(super) fn stay(&self, why: UnmovedReason) {
        if self.move_outcome.stay() {
            log::debug!(%why, "an HTTP/2 connection does not move");
            self.note_unmoved(why);
        }
    }

    /// Lets the next response be the last one.
    pub(super) fn close_after_response(&self) {
        self.asked.fetch_or(CLOSE_AFTER_RESPONSE, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn closes_after_response(&self) -> bool {
        self.asked.load(Ordering::Relaxed) & CLOSE_AFTER_RESPONSE != 0
    }

    /// Notes why the connection closes; the first reason stands.
    pub(super) fn end(&self, reason: CloseReason) {
        let code = match reason {
            CloseReason::Finished => 1,
            CloseReason::IdleClosed => 2,
            CloseReason::Error => 3,
            CloseReason::Aborted => 4,
            CloseReason::Moved(kind) => MOVED + kind as u8,
        };
        let _ = self.close_reason.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Why the connection closes.
    pub(super) fn close_reason(&self) -> CloseReason {
        let code = self.close_reason.load(Ordering::Relaxed);
        match code {
            0 if std::thread::panicking() => CloseReason::Error,
            2 => CloseReason::IdleClosed,
            3 => CloseReason::Error,
            4 => CloseReason::Aborted,
            MOVED.. => CloseReason::Moved(ConnectionKind::ALL[usize::from(code - MOVED)]),
            _ => CloseReason::Finished,
        }
    }

    /// Notes why the connection does not move; the last reason stands. It counts if the connection ends here while others move.
    /// `None` takes back what was noted.
    pub(super) fn note_unmoved(&self, reason: impl Into<Option<UnmovedReason>>) {
        self.unmoved.store(reason.into().map_or(0, |reason| reason as u8 + 1), Ordering::Relaxed);
    }

    /// Why the connection, which ends for `close_reason`, has not moved. `None` if it has, or if none moves.
    pub(super) fn unmoved(&self, close_reason: CloseReason) -> Option<UnmovedReason> {
        let drain = &self.route.drain;
        if self.unmoved.load(Ordering::Relaxed) == UnmovedReason::NotResumed as u8 + 1 {
            return Some(UnmovedReason::NotResumed);
        }
        if !drain.had_destination() || matches!(close_reason, CloseReason::Moved(_)) {
            return None;
        }
        let noted = self.unmoved.load(Ordering::Relaxed).checked_sub(1);
        match close_reason {
            _ if noted.is_some() => noted.map(|number| UnmovedReason::ALL[usize::from(number)]),
            CloseReason::Aborted => Some(UnmovedReason::Busy),
            _ if drain.moves() => None,
            _ if drain.stores() => Some(UnmovedReason::NoRoom),
            _ => Some(UnmovedReason::Refused),
        }
    }
}

impl IdleEntry for State {
    fn is_busy(&self) -> bool {
        Self::is_busy(self) || self.has_streams.load(Ordering::Relaxed)
    }

    fn calls(&self) -> u32 {
        Self::calls(self)
    }

    fn close_idle(&self) {
        self.asked.fetch_or(CLOSE_IDLE, Ordering::Relaxed);
    }

    fn close_after_response(&self) {
        Self::close_after_response(self);
    }
}
