//! Messages in order, sent at once where the kernel takes them, and else as soon as it does.
//!
//! A message is pushed and sent under one lock, so the order of sending is the order of pushing. While a task sends
//! what waits (`has_sender`), a push only adds to the queue.
//!
//! The queue is not bounded, and its callers bound it:
//!
//! - A message that repeats an earlier one replaces it, so status, watchdog and extensions are one message each at
//!   most.
//! - The fd store waits for a barrier after every 32 connections.
//! - All other messages are a few in the life of a process.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{io::Interest, runtime::Handle, time::sleep};

use super::state::Message;
use crate::{
    log,
    sys::notify::{NotifySocket, is_short},
};

/// How long to wait when the kernel is short of memory or of descriptors in flight. No event says when that is over.
const SHORTAGE: Duration = Duration::from_millis(10);

/// The messages that were not sent yet, and their socket.
#[derive(Debug)]
pub(super) struct Outbox {
    socket: NotifySocket,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Message>,
    /// A task is sending them.
    has_sender: bool,
    /// The last message was lost, and that was logged.
    has_logged: bool,
}

impl Outbox {
    pub(super) fn open(address: &[u8]) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { socket: NotifySocket::open(address)?, queue: Mutex::default() }))
    }

    /// Sends `message` after those that wait, now or in a task; outside a runtime, with the next one.
    pub(super) fn push(self: &Arc<Self>, message: Message) {
        let mut queue = self.lock();
        if message.supersedes() {
            queue.waiting.retain(|earlier| !earlier.is_superseded_by(&message));
        }
        queue.waiting.push_back(message);
        if queue.has_sender || queue.send(&self.socket).is_ok() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            queue.has_sender = true;
            let sender = Sender { outbox: Arc::clone(self), has_ended: false };
            drop(runtime.spawn(sender.run()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Sends what waits.
    ///
    /// # Errors
    ///
    /// The rest has to wait longer. A message that cannot be sent at all is dropped and logged, and its sender gets the
    /// error.
    fn send(&mut self, socket: &NotifySocket) -> io::Result<()> {
        while let Some(message) = self.waiting.front() {
            let sent = match message.text.as_str() {
                "" => Ok(()),
                text => socket.send(text, message.fd.as_ref().map(AsFd::as_fd)),
            };
            if let Err(error) = &sent {
                if error.kind() == io::ErrorKind::WouldBlock || is_short(error) {
                    return sent;
                }
                self.log_once(error);
            } else {
                self.has_logged = false;
            }
            // Dropped only now: the descriptor is closed here once the manager has its own.
            let sender = self.waiting.pop_front().and_then(|message| message.sent);
            if let Some(sender) = sender {
                let _ = sender.send(sent);
            }
        }
        Ok(())
    }

    /// Logs the first of several failures in a row.
    fn log_once(&mut self, error: &io::Error) {
        if !self.has_logged {
            self.has_logged = true;
            log::warn!(%error, "the service manager cannot be notified; is NOTIFY_SOCKET still there?");
        }
    }
}

/// The task that sends what waits. When it is dropped before its end, with its runtime for instance, the next push
/// starts another.
#[derive(Debug)]
struct Sender {
    outbox: Arc<Outbox>,
    has_ended: bool,
}

impl Sender {
    async fn run(mut self) {
        // A copy, so that one sender that is about to end and the next one can both be registered.
        let watched = match self.outbox.socket.watch() {
            Ok(watched) => watched,
            Err(error) => return log::error!(%error, "cannot wait until the service manager has room"),
        };
        loop {
            match watched.try_io(Interest::WRITABLE, || self.send_rest()) {
                Ok(()) => return,
                Err(error) if is_short(&error) => sleep(SHORTAGE).await,
                Err(_) if watched.writable().await.is_err() => return,
                Err(_) => {}
            }
        }
    }

    /// Sends what waits. When all of it is sent, the next message that has to wait has a sender of its own.
    fn send_rest(&mut self) -> io::Result<()> {
        let mut queue = self.outbox.lock();
        queue.send(&self.outbox.socket)?;
        queue.has_sender = false;
        self.has_ended = true;
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.has_ended {
            self.outbox.lock().has_sender = false;
        }
    }
}
