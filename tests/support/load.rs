//! Clients that connect, ask and leave, again and again, and note what becomes of it.

use std::{
    fmt, io,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use axum_activation::ListenAddr;

use super::http::Client;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n";

/// What became of the connections of all clients.
#[derive(Debug, Default)]
pub(crate) struct Load {
    answered: AtomicU64,
    aborted: AtomicU64,
    refused: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// Stops the clients when dropped, so that a failing test does not wait for them for ever.
#[derive(Debug)]
pub(crate) struct StopOnDrop<'a>(&'a Load);

impl Load {
    /// One client after the other, until stopped.
    pub(crate) fn run(&self, target: &ListenAddr) {
        while !self.stopped.load(Relaxed) {
            match Client::connect(target) {
                Err(error) => self.refused.lock().expect("no client panics").push(format!("{target}: {error}")),
                Ok(client) => self.note(ask(client).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 OK\r\n"))),
            }
        }
    }

    pub(crate) fn stop_on_drop(&self) -> StopOnDrop<'_> {
        StopOnDrop(self)
    }

    /// How many got their answer.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    /// What every failed connect failed with.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.refused.lock().expect("no client panics").clone()
    }

    fn note(&self, answered: bool) {
        let counter = if answered { &self.answered } else { &self.aborted };
        counter.fetch_add(1, Relaxed);
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answered, aborted, refused) = (self.answered(), self.aborted.load(Relaxed), self.refused().len());
        write!(f, "{answered} answered, {aborted} aborted, {refused} refused")
    }
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Relaxed);
    }
}

/// One request on a connection of its own.
fn ask(mut client: Client) -> io::Result<Vec<u8>> {
    client.send(REQUEST)?;
    client.rest()
}
