//! The old process's side after the commit: its idle connections move to the successor.
//!
//! What holds at every moment:
//!
//! 1. A connection is in one place: in the queue, `waiting`, `unsent` or `sent`. It leaves through [`OldProcess::resume`], or it
//!    is dropped; never both, never neither.
//! 2. Answers come in the order of the messages, so the first batch in `sent` is the one that an answer is for. After an answer
//!    that fits no batch, or that cannot be read, this does not hold any more, and no later answer counts.
//! 3. What was sent comes back for two reasons alone: its batch was `Refused`, or the control socket ended after every packet was read
//!    and invariant 2 still held. At that end the successor has closed its side, so it can say `Taken` no more: it has dropped what it
//!    had read and not answered, and the kernel has dropped what it had not read.
//! 4. What was sent is dropped, and not served here, if it was `Taken`, or if none of the above comes before the drain's deadline. The
//!    successor may serve it. If it does not, it closes the connection as it ends.
//! 5. The successor can always say `Taken` until this side has read all that it says: the reading side of the control socket stays open
//!    until then. So a successor that keeps to the protocol never has a connection of which it does not know whose it is, unless
//!    this process ends.

use std::{collections::VecDeque, future::pending, io, sync::Arc, time::Duration};

use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::yield_now,
    time::{Instant, sleep_until},
};

pub(crate) use super::final_state::{FinalStatePhase, OldProcess};
use super::{
    batch::{Batch, MOST_CONNECTIONS},
    channel::{Channel, Envelope, reason, unexpected},
    error::Refusal,
    older::OlderGenerations,
    protocol::{Abort, Done, Message},
    reason::ReturnReason,
};
use crate::{idle_connection::IdleConnection, log, sys::scm};

/// What the sender waits for.
const AWAITED: &str = "a `Taken`";

/// How long connections wait for a successor that takes none: it has no room, or does not read. Their clients may wait, too.
const STALL_LIMIT: Duration = Duration::from_secs(2);

/// Moves connections for as long as somebody may send one.
#[derive(Debug)]
#[must_use = "nothing moves unless it runs"]
pub(crate) struct ConnectionSender {
    channel: Channel,
    /// The version that is spoken.
    version: u32,
    /// How many connections the next batch has at most: less after one could not be sent, to find those that cannot.
    most: usize,
    queue: UnboundedReceiver<IdleConnection>,
    /// Every handle is gone and the queue is empty.
    is_queue_done: bool,
    waiting: VecDeque<IdleConnection>,
    unsent: Option<Batch>,
    sent: VecDeque<Batch>,
    credit: u32,
    /// Since when something waits and nothing goes.
    stalled_since: Option<Instant>,
    /// That was for too long: until there is room again, nothing waits.
    is_full: bool,
    /// The successor stops itself.
    is_leaving: bool,
    older: Option<OlderGenerations>,
}

/// Where connections are put that are to move.
#[derive(Clone, Debug)]
pub(crate) struct SenderHandle {
    queue: UnboundedSender<IdleConnection>,
}

/// How a sender has ended. What was not taken has been given back.
#[derive(Debug)]
pub(crate) enum TransferOutcome {
    /// Every handle is gone and every connection taken or given back.
    Moved(FinalStatePhase),
    /// The successor stops itself, and takes nothing more. No reason to resume accepting.
    Left,
    /// The successor has ended without a word.
    Died,
    /// The successor does not keep to the protocol; the control socket is closed.
    Broken(Refusal),
}

enum Event {
    Arrived(Result<Envelope, Refusal>),
    Sent(io::Result<()>),
    Queued(usize),
    Stalled,
    SaidOlder(u32),
}

impl SenderHandle {
    /// Moves `connection` as soon as the successor takes one more.
    ///
    /// # Errors
    ///
    /// The connection, when nobody takes any more.
    pub(crate) fn send(&self, connection: IdleConnection) -> Result<(), IdleConnection> {
        self.queue.send(connection).map_err(|unsent| unsent.0)
    }
}

impl ConnectionSender {
    pub(super) fn new(channel: Channel, version: u32) -> (Self, SenderHandle) {
        let (handle, queue) = unbounded_channel();
        let sender = Self {
            channel,
            version,
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
        (sender, SenderHandle { queue: handle })
    }

    /// Tells the successor how many generations before this one still drain, when that is not what it was offered.
    pub(crate) fn reporting_older(mut self, draining: watch::Receiver<u32>, offered: u32) -> Self {
        self.older = Some(OlderGenerations::new(draining, offered));
        self
    }

    /// Moves what is sent through the handles until all of them are gone and everything is taken, or the successor takes no more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what has not been taken.
    pub(crate) async fn run(mut self, predecessor: &mut impl OldProcess) -> TransferOutcome {
        let ended = loop {
            self.gather(predecessor);
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
            if let Err(refusal) = self.handle(event, predecessor) {
                break Err(refusal);
            }
            yield_now().await;
        };
        self.end(ended, predecessor).await
    }

    /// Makes the next batch, if there is something to send and leave to send it.
    fn gather(&mut self, predecessor: &mut impl OldProcess) {
        while self.unsent.is_none() && self.credit > 0 && !self.waiting.is_empty() {
            let most = usize::try_from(self.credit).unwrap_or(usize::MAX).min(self.most);
            let (batch, unsendable) = Batch::gather(&mut self.waiting, most, self.version);
            self.unsent = batch;
            for (connection, why) in unsendable {
                predecessor.resume(connection, &ReturnReason::Unsendable(why.into()));
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
            older = say_older(channel, older.as_mut()) => Event::SaidOlder(older),
        };
        waiting.extend(queued);
        event
    }

    /// Until when what waits may do so.
    fn stalled_until(&mut self) -> Option<Instant> {
        if self.waiting.is_empty() && self.unsent.is_none() {
            self.stalled_since = None;
            return None;
        }
        let since = *self.stalled_since.get_or_insert_with(Instant::now);
        Some(if self.is_full && self.credit == 0 { since } else { since + STALL_LIMIT })
    }

    /// Something went, or may go.
    fn note_progress(&mut self) {
        (self.stalled_since, self.is_full) = (None, false);
    }

    /// Keeps what waits; what has been sent is still to be answered.
    fn return_unsent(&mut self, why: &ReturnReason, predecessor: &mut impl OldProcess) {
        let unsent = self.unsent.take().map_or_else(Vec::new, |batch| batch.connections);
        return_all(unsent.into_iter().chain(std::mem::take(&mut self.waiting)), why, predecessor);
    }

    fn handle(&mut self, event: Event, predecessor: &mut impl OldProcess) -> Result<(), Refusal> {
        match event {
            Event::Arrived(arrived) => self.arrived(arrived?.message, predecessor)?,
            Event::Sent(sent) => self.was_sent(sent, predecessor),
            Event::Queued(count) => self.is_queue_done = count == 0,
            Event::SaidOlder(draining) => self.older.iter_mut().for_each(|older| older.note_said(draining)),
            Event::Stalled => {
                if !std::mem::replace(&mut self.is_full, true) {
                    log::warn!(
                        "the successor takes no more connections for now, what waits ends here; raise its LimitNOFILE="
                    );
                }
                self.return_unsent(&ReturnReason::Refused("it takes none for now".into()), predecessor);
            }
        }
        Ok(())
    }

    fn was_sent(&mut self, sent: io::Result<()>, predecessor: &mut impl OldProcess) {
        let Some(mut batch) = self.unsent.take() else { return };
        match sent {
            Ok(()) => {
                self.credit = self.credit.saturating_sub(batch.len());
                self.note_progress();
                self.most = self.most.saturating_mul(2).min(MOST_CONNECTIONS);
                batch.forget_packet();
                self.sent.push_back(batch);
            }
            // What it said before is still to be read, and then the end of it.
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
                return_all(batch.connections, &ReturnReason::Unsendable(error.to_string().into()), predecessor);
            }
        }
    }

    fn arrived(&mut self, message: Message, predecessor: &mut impl OldProcess) -> Result<(), Refusal> {
        match message {
            Message::Credit(credit) => {
                self.credit = self.credit.saturating_add(credit.connections);
                self.note_progress();
            }
            Message::Taken(taken) => drop(self.answered(taken.count)?),
            Message::Refused(refused) => {
                let why = ReturnReason::Refused(refused.reason.into());
                return_all(self.answered(refused.count)?.connections, &why, predecessor);
            }
            // A successor of an older version has this one end early, which its own limit is for.
            Message::Trim(_) => {}
            Message::Leaving(_) => self.leave(predecessor),
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

    /// Keeps what has not been sent; what has been is still answered.
    fn leave(&mut self, predecessor: &mut impl OldProcess) {
        self.is_leaving = true;
        self.is_queue_done = true;
        predecessor.stop_moving(&ReturnReason::Leaving);
        self.queue.close();
        self.return_unsent(&ReturnReason::Leaving, predecessor);
        while let Ok(connection) = self.queue.try_recv() {
            predecessor.resume(connection, &ReturnReason::Leaving);
        }
    }

    /// Gives everything back that is left here alone, and what was sent as far as invariant 3 allows.
    async fn end(
        mut self,
        ended: Result<TransferOutcome, Refusal>,
        predecessor: &mut impl OldProcess,
    ) -> TransferOutcome {
        let (parted, why) = match ended {
            Ok(parted) => (parted, ReturnReason::Leaving),
            Err(Refusal::Gone { .. }) if self.is_leaving => (TransferOutcome::Left, ReturnReason::Leaving),
            Err(Refusal::Gone { .. }) => (TransferOutcome::Died, ReturnReason::Died),
            Err(refusal) => {
                let why = ReturnReason::Refused(Arc::from(refusal.to_string()));
                (TransferOutcome::Broken(refusal), why)
            }
        };
        predecessor.stop_moving(&why);
        self.queue.close();
        self.return_unsent(&why, predecessor);
        while let Some(connection) = self.queue.recv().await {
            predecessor.resume(connection, &why);
        }
        match &parted {
            TransferOutcome::Broken(refusal) if !self.abort_and_drain(refusal, predecessor).await => {
                let left: u32 = self.sent.iter().map(Batch::len).sum();
                log::warn!(
                    connections = left,
                    "the successor broke the protocol of the handoff and may have these, so they are closed here"
                );
            }
            _ => return_all(self.sent.into_iter().flat_map(|batch| batch.connections), &why, predecessor),
        }
        parted
    }

    /// Ends the talk with a successor that breaks the protocol: sends nothing more, and reads what it says until its end. Whether what
    /// is left in `sent` then is this process's.
    ///
    /// A successor that does nothing is waited for, as it may go on with what it was sent at any time. The drain's deadline ends that.
    async fn abort_and_drain(&mut self, refusal: &Refusal, predecessor: &mut impl OldProcess) -> bool {
        // The reason, if there is room for it. The end needs none.
        self.channel.try_send(Abort { reason: reason(refusal) });
        self.channel.stop_sending();
        let mut is_known = !is_answer(refusal);
        while !self.sent.is_empty() {
            let answer = match self.channel.receive(AWAITED).await {
                Ok(Envelope { message: Message::Taken(taken), .. }) if is_known => self.answered(taken.count).map(drop),
                Ok(Envelope { message: Message::Refused(refused), .. }) if is_known => {
                    let why = ReturnReason::Refused(refused.reason.into());
                    self.answered(refused.count).map(|batch| return_all(batch.connections, &why, predecessor))
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

/// Whether the order of the answers is lost.
fn is_answer(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Malformed { is_answer: true, .. })
}

/// Sends the successor how many older generations drain, when it does not know. Dropped before, it has sent nothing.
async fn say_older(channel: &Channel, older: Option<&mut OlderGenerations>) -> u32 {
    let Some(older) = older else { return pending().await };
    let news = older.news().await;
    // That the control socket fails shows when something is received from it.
    if channel.send_if_open(news.clone()).await.is_ok() { news.draining } else { pending().await }
}

fn return_all(
    connections: impl IntoIterator<Item = IdleConnection>,
    why: &ReturnReason,
    predecessor: &mut impl OldProcess,
) {
    connections.into_iter().for_each(|connection| predecessor.resume(connection, why));
}
