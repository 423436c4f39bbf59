//! The old process's side after the commit: its idle connections move to the new process.
//!
//! Invariants:
//!
//! 1. A connection is in one place: in the queue, `waiting`, `unsent` or `sent`. It leaves either through [`OldProcess::resume`] or by
//!    being dropped.
//! 2. Answers come in the order of the messages, so an answer is about the first batch in `sent`. After an answer that fits no batch, or
//!    that cannot be decoded, this does not hold any more, and later answers are ignored.
//! 3. A sent connection comes back for two reasons only: its batch was `Refused`, or the control socket ended after every packet was
//!    read and while invariant 2 still held. The new process has then closed its end, so it cannot send `Taken` any more: it has dropped
//!    what it had read and not answered, and the kernel has dropped what it had not read.
//! 4. A sent connection is dropped, and not served here, if it was `Taken`, or if nothing of the above happens before the drain's
//!    deadline. The new process may serve it. If it does not, it closes the connection when it ends.
//! 5. This process reads from the control socket until the new process closes it, so the new process can always send `Taken`. One that
//!    keeps to the protocol knows of each connection which process owns it, unless this process ends.

use std::{collections::VecDeque, future::pending, io, sync::Arc, time::Duration};

use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{
    accepts::SuccessorAccepts,
    batch::{Batch, MOST_CONNECTIONS},
    channel::{Channel, reason, unexpected},
    error::Refusal,
    final_state::FinalStatePhase,
    inbox::Envelope,
    older::OlderGenerations,
    protocol::{Abort, Done, Message},
    reason::ReturnReason,
};
use crate::{
    idle_connection::{Accepts, IdleConnection},
    log,
    sys::scm,
};

/// What the sender waits for.
const AWAITED: &str = "a `Taken`";

/// How long connections wait for a new process that takes none: it has no room, or does not read. Their clients wait, too.
const STALL_LIMIT: Duration = Duration::from_secs(2);

/// The service of the old process, as the transfer of its connections needs it.
pub(crate) trait OldProcess {
    /// Takes back a connection that the new process has not taken. `why` decides what becomes of it: after [`ReturnReason::Died`] it may be
    /// served on, and otherwise it ends in this process.
    fn resume(&mut self, connection: IdleConnection, why: &ReturnReason);

    /// Sends no more connections, as the new process takes no more. What is left comes back by [`resume`](Self::resume) after this call, so
    /// that it does not leave again. It is not called for a single batch that is refused, nor while the new process has no room.
    fn stop_moving(&mut self, why: &ReturnReason);
}

/// Moves connections, until every [`SenderHandle`] is dropped.
#[derive(Debug)]
#[must_use = "nothing moves unless it runs"]
pub(crate) struct ConnectionSender {
    channel: Channel,
    /// The version of the protocol that both speak.
    version: u32,
    accepts: Arc<SuccessorAccepts>,
    /// The most connections of the next batch. After one that could not be sent there are fewer, to find the connections that cannot.
    most: usize,
    /// Not bounded by itself: each entry is a connection that this process has open, and the routes bound those.
    queue: UnboundedReceiver<IdleConnection>,
    /// Every handle is gone and the queue is empty.
    is_queue_done: bool,
    waiting: VecDeque<IdleConnection>,
    unsent: Option<Batch>,
    sent: VecDeque<Batch>,
    credit: u32,
    /// Since when connections wait and none is sent.
    stalled_since: Option<Instant>,
    /// They have waited for too long: until the new process has room again, none waits.
    is_full: bool,
    /// The new process stops.
    is_leaving: bool,
    older: Option<OlderGenerations>,
}

/// Takes the connections that are to move.
#[derive(Clone, Debug)]
pub(crate) struct SenderHandle {
    queue: UnboundedSender<IdleConnection>,
    accepts: Arc<SuccessorAccepts>,
}

/// How the transfer of the connections has ended. Every connection that was not taken has come back.
#[derive(Debug)]
pub(crate) enum TransferOutcome {
    /// Every handle is dropped, and every connection has been taken or has come back.
    Moved(FinalStatePhase),
    /// The new process stops, and takes no more. The service ends, so this process does not accept again.
    Left,
    /// The new process has died.
    Died,
    /// The new process has broken the protocol. The control socket is closed.
    Broken(Refusal),
}

enum Event {
    Arrived(Result<Envelope, Refusal>),
    Sent(io::Result<()>),
    Queued(usize),
    Stalled,
    OlderReported(u32),
}

impl SenderHandle {
    /// Moves `connection` as soon as the new process has room for it.
    ///
    /// # Errors
    ///
    /// The connection, if the transfer has ended.
    pub(crate) fn send(&self, connection: IdleConnection) -> Result<(), IdleConnection> {
        self.queue.send(connection).map_err(|unsent| unsent.0)
    }

    /// Which connections of `listener` the new process takes, beside those of HTTP/1 that are idle.
    pub(crate) fn accepts(&self, listener: &str) -> Accepts {
        self.accepts.of(listener)
    }
}

impl ConnectionSender {
    pub(super) fn new(channel: Channel, version: u32, accepts: SuccessorAccepts) -> (Self, SenderHandle) {
        let (handle, queue) = unbounded_channel();
        let accepts = Arc::new(accepts);
        let sender = Self {
            channel,
            version,
            accepts: Arc::clone(&accepts),
            most: MOST_CONNECTIONS,
            queue,
            is_queue_done: false,
            waiting: VecDeque::new(),
            unsent: None,
            sent: VecDeque::new(),
            credit: 0,
            stalled_since: None,
            is_full: false,
            is_leaving: false,
            older: None,
        };
        (sender, SenderHandle { queue: handle, accepts })
    }

    /// Sends how many older generations still drain, whenever that differs from what the new process knows, which is `offered` first.
    pub(crate) fn reporting_older(mut self, draining: watch::Receiver<u32>, offered: u32) -> Self {
        self.older = Some(OlderGenerations::new(draining, offered));
        self
    }

    /// Moves the connections that the handles send, until all handles are dropped and everything is answered, or the new process takes no
    /// more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections that have not been taken.
    pub(crate) async fn run(mut self, old: &mut impl OldProcess) -> TransferOutcome {
        let ended = loop {
            self.gather(old);
            if self.sent.is_empty() && self.unsent.is_none() {
                if self.is_leaving {
                    self.channel.try_send(Done {});
                    break Ok(TransferOutcome::Left);
                }
                if self.is_queue_done && self.waiting.is_empty() {
                    return TransferOutcome::Moved(FinalStatePhase::new(self.channel));
                }
            }
            let event = self.next().await;
            if let Err(refusal) = self.handle(event, old) {
                break Err(refusal);
            }
            yield_now().await;
        };
        self.end(ended, old).await
    }

    /// Makes the next batch, if a connection waits and the new process has room.
    fn gather(&mut self, old: &mut impl OldProcess) {
        while self.unsent.is_none() && self.credit > 0 && !self.waiting.is_empty() {
            let most = usize::try_from(self.credit).unwrap_or(usize::MAX).min(self.most);
            let (batch, unsendable) = Batch::gather(&mut self.waiting, most, self.version, &self.accepts);
            self.unsent = batch;
            for (connection, why) in unsendable {
                old.resume(connection, &why);
            }
        }
    }

    async fn next(&mut self) -> Event {
        let stalled_until = self.stalled_until();
        let Self { channel, queue, is_queue_done, waiting, unsent, older, .. } = self;
        let mut queued = Vec::new();
        let send = async {
            match unsent {
                Some(batch) => channel.send_packet(batch.packet(), &batch.fds()).await,
                None => pending().await,
            }
        };
        let stalled = async {
            match stalled_until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        let wants_more = !*is_queue_done && waiting.len() < MOST_CONNECTIONS;
        let event = tokio::select! {
            arrived = channel.receive(AWAITED) => Event::Arrived(arrived),
            sent = send => Event::Sent(sent),
            count = queue.recv_many(&mut queued, MOST_CONNECTIONS), if wants_more => Event::Queued(count),
            () = stalled => Event::Stalled,
            older = report_older(channel, older.as_mut()) => Event::OlderReported(older),
        };
        waiting.extend(queued);
        event
    }

    /// Until when the waiting connections wait.
    fn stalled_until(&mut self) -> Option<Instant> {
        if self.waiting.is_empty() && self.unsent.is_none() {
            self.stalled_since = None;
            return None;
        }
        let since = *self.stalled_since.get_or_insert_with(Instant::now);
        Some(if self.is_full && self.credit == 0 { since } else { since + STALL_LIMIT })
    }

    /// A connection has been sent, or can be.
    fn note_progress(&mut self) {
        (self.stalled_since, self.is_full) = (None, false);
    }

    /// Returns the connections that have not been sent. The others are still to be answered.
    fn return_unsent(&mut self, why: &ReturnReason, old: &mut impl OldProcess) {
        let unsent = self.unsent.take().map_or_else(Vec::new, |batch| batch.connections);
        return_all(unsent.into_iter().chain(std::mem::take(&mut self.waiting)), why, old);
    }

    fn handle(&mut self, event: Event, old: &mut impl OldProcess) -> Result<(), Refusal> {
        match event {
            Event::Arrived(arrived) => self.arrived(arrived?.message, old)?,
            Event::Sent(sent) => self.was_sent(sent, old),
            Event::Queued(count) => self.is_queue_done = count == 0,
            Event::OlderReported(draining) => self.older.iter_mut().for_each(|older| older.note_reported(draining)),
            Event::Stalled => {
                if !std::mem::replace(&mut self.is_full, true) {
                    log::warn!(
                        "the successor takes no more connections for now, what waits ends here; raise its LimitNOFILE="
                    );
                }
                self.return_unsent(&ReturnReason::NoRoom, old);
            }
        }
        Ok(())
    }

    fn was_sent(&mut self, sent: io::Result<()>, old: &mut impl OldProcess) {
        let Some(mut batch) = self.unsent.take() else { return };
        match sent {
            Ok(()) => {
                self.credit = self.credit.saturating_sub(batch.len());
                self.note_progress();
                self.most = self.most.saturating_mul(2).min(MOST_CONNECTIONS);
                batch.forget_packet();
                self.sent.push_back(batch);
            }
            // What it sent before is still to be read, and then the end.
            Err(error) if scm::is_gone(&error) => {
                self.credit = 0;
                batch.connections.into_iter().rev().for_each(|connection| self.waiting.push_front(connection));
            }
            Err(error) if batch.connections.len() > 1 => {
                log::debug!(%error, connections = batch.len(), "a message with connections cannot be sent, trying fewer");
                self.most = batch.connections.len() / 2;
                batch.connections.into_iter().rev().for_each(|connection| self.waiting.push_front(connection));
            }
            Err(error) => {
                return_all(batch.connections, &ReturnReason::Unsendable(error.to_string().into()), old);
            }
        }
    }

    fn arrived(&mut self, message: Message, old: &mut impl OldProcess) -> Result<(), Refusal> {
        match message {
            Message::Credit(credit) => {
                self.credit = self.credit.saturating_add(credit.connections);
                self.note_progress();
            }
            Message::Taken(taken) => drop(self.answered(taken.count)?),
            Message::Refused(refused) => {
                let why = ReturnReason::Refused(refused.reason.into());
                return_all(self.answered(refused.count)?.connections, &why, old);
            }
            // Older versions ask this process to end early. It ends at its own deadline.
            Message::Trim(_) => {}
            Message::Leaving(_) => self.leave(old),
            message => return Err(unexpected(message, AWAITED)),
        }
        Ok(())
    }

    /// The batch that an answer for `count` connections is about.
    fn answered(&mut self, count: u32) -> Result<Batch, Refusal> {
        let fits = self.sent.front().is_some_and(|batch| batch.len() == count);
        let batch = if fits { self.sent.pop_front() } else { None };
        batch.ok_or_else(|| Refusal::Malformed {
            problem: format!("an answer for {count} connections, which are not what was sent next"),
            is_answer: true,
        })
    }

    /// The new process stops: returns what has not been sent. It still answers what has been.
    fn leave(&mut self, old: &mut impl OldProcess) {
        self.is_leaving = true;
        self.is_queue_done = true;
        old.stop_moving(&ReturnReason::Leaving);
        self.queue.close();
        self.return_unsent(&ReturnReason::Leaving, old);
        while let Ok(connection) = self.queue.try_recv() {
            old.resume(connection, &ReturnReason::Leaving);
        }
    }

    /// Returns every connection that has not been sent, and the sent ones as far as invariant 3 allows.
    async fn end(mut self, ended: Result<TransferOutcome, Refusal>, old: &mut impl OldProcess) -> TransferOutcome {
        let (outcome, why) = match ended {
            Ok(outcome) => (outcome, ReturnReason::Leaving),
            Err(Refusal::Gone { .. }) if self.is_leaving => (TransferOutcome::Left, ReturnReason::Leaving),
            Err(Refusal::Gone { .. }) => (TransferOutcome::Died, ReturnReason::Died),
            Err(refusal) => {
                let why = ReturnReason::Refused(Arc::from(refusal.to_string()));
                (TransferOutcome::Broken(refusal), why)
            }
        };
        old.stop_moving(&why);
        self.queue.close();
        self.return_unsent(&why, old);
        while let Some(connection) = self.queue.recv().await {
            old.resume(connection, &why);
        }
        match &outcome {
            TransferOutcome::Broken(refusal) if !self.abort_and_drain(refusal, old).await => {
                let left: u32 = self.sent.iter().map(Batch::len).sum();
                log::warn!(
                    connections = left,
                    "the successor broke the protocol of the handoff and may have these, so they are closed here"
                );
            }
            _ => return_all(self.sent.into_iter().flat_map(|batch| batch.connections), &why, old),
        }
        outcome
    }

    /// Aborts the transfer to a new process that has broken the protocol: sends nothing more, and reads what it sends until it closes the
    /// socket. Whether this process owns what is then left in `sent`.
    ///
    /// It waits for a new process that does nothing, as that one may use what it was sent at any time. The drain's deadline ends the wait.
    async fn abort_and_drain(&mut self, refusal: &Refusal, old: &mut impl OldProcess) -> bool {
        // The reason is sent if there is room for it. The end needs none.
        self.channel.try_send(Abort { reason: reason(refusal) });
        self.channel.stop_sending();
        let mut is_known = !is_answer(refusal);
        while !self.sent.is_empty() {
            let answer = match self.channel.receive(AWAITED).await {
                Ok(Envelope { message: Message::Taken(taken), .. }) if is_known => self.answered(taken.count).map(drop),
                Ok(Envelope { message: Message::Refused(refused), .. }) if is_known => {
                    let why = ReturnReason::Refused(refused.reason.into());
                    self.answered(refused.count).map(|batch| return_all(batch.connections, &why, old))
                }
                Ok(_) => Ok(()),
                Err(Refusal::Gone { .. }) => return is_known,
                Err(refusal @ Refusal::Malformed { .. }) => Err(refusal),
                Err(_) => return false,
            };
            is_known &= !answer.is_err_and(|refusal| is_answer(&refusal));
            yield_now().await;
        }
        true
    }
}

/// Whether it is unknown from now on which batch an answer is about.
fn is_answer(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Malformed { is_answer: true, .. })
}

/// Sends how many older generations drain, when the new process does not know. A future that is dropped before has sent nothing.
async fn report_older(channel: &Channel, older: Option<&mut OlderGenerations>) -> u32 {
    let Some(older) = older else { return pending().await };
    let news = older.news().await;
    // A control socket that fails is noticed by the receiving side.
    if channel.send_if_open(news.clone()).await.is_ok() { news.draining } else { pending().await }
}

fn return_all(connections: impl IntoIterator<Item = IdleConnection>, why: &ReturnReason, old: &mut impl OldProcess) {
    connections.into_iter().for_each(|connection| old.resume(connection, why));
}
