//! Both directions of one HTTP/2 connection, and the steps of its move.
//!
//! ```text
//! Passing ──ask──► Asked ──the client acknowledges──► Holding ──a quiet point──► it moves
//!                    │                                  │  ▲                         ▲
//!                    │                        some 50 ms│  │the streams in the way    │
//!                    │                                  ▼  │have ended               │
//!                    │                                Emptied ──a quiet point────────┘
//!                    └───────────► Stays ◄─────────────────┘
//! ```
//!
//! *Asked*: SETTINGS that leave the client without a table for its header compression (RFC 7541, section 4.2) are sent.
//! From the acknowledgement on nothing of that table must travel. *Holding*: frames of new streams wait. A connection is at
//! a *quiet point* when no stream is open, neither side owes the other anything, and the library has all that was
//! received: it reads, and there is nothing for it.

use bytes::Bytes;

use super::{
    inbound::Inbound,
    opening::Opening,
    outbound::Outbound,
    ready::Taken,
    record::{self, Agreed},
    seen::{FIRST_WINDOW, Seen},
    settings::{HEADER_TABLE_SIZE, Settings},
};
use crate::{drain::UnmovedReason, idle_connection::Http2Record};

/// How often frames of new streams are held back before only a moment without any stream is waited for.
const MOST_HOLDS: u32 = 5;

/// The step of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Step {
    /// Nothing is asked.
    Passing,
    /// The client is to acknowledge that it has no table.
    Asked,
    /// It has none, and new streams wait.
    Holding,
    /// It has none, and new streams do not wait.
    Emptied,
    /// The connection does not move.
    Stays(UnmovedReason),
}

/// Both directions of one connection.
#[derive(Debug)]
pub(in crate::server) struct Session {
    seen: Seen,
    inbound: Inbound,
    outbound: Outbound,
    step: Step,
    /// Whether bytes go through [`feed_client`](Self::feed_client) and [`feed_library`](Self::feed_library).
    is_fed: bool,
    holds: u32,
    /// The highest stream when new ones were held back last.
    in_the_way: u32,
}

impl Session {
    /// A connection whose client is about to send the preface.
    pub(in crate::server) fn new() -> Self {
        Self {
            seen: Seen::new(),
            inbound: Inbound::new(),
            outbound: Outbound::new(),
            step: Step::Passing,
            is_fed: false,
            holds: 0,
            in_the_way: 0,
        }
    }

    /// A connection from another instance of the library; `None` if the record cannot be true.
    pub(in crate::server) fn resume(record: &Http2Record) -> Option<Self> {
        let (client, own) = record::settings(record)?;
        let mut seen = Seen::resumed(client, own);
        (seen.highest, seen.send_window) = (record.highest_stream, i64::from(record.send_window));
        seen.receive_window = i64::from(record.receive_window);
        let shortfall = u32::try_from(FIRST_WINDOW - seen.send_window).unwrap_or(0);
        let opening = Opening::of_client(&seen);
        let inbound = Inbound::resumed(record.highest_stream, !record.table_emptied, &opening);
        let outbound = Outbound::resumed(record.highest_stream, shortfall);
        Some(Self { seen, inbound, outbound, is_fed: true, ..Self::new() })
    }

    /// What the client has acknowledged, on a connection from another instance.
    pub(in crate::server) fn agreed(&self) -> Agreed {
        Agreed::of(&self.seen.own, window(self.seen.receive_window))
    }

    pub(in crate::server) fn step(&self) -> Step {
        self.step
    }

    /// Whether the bytes of both sides go through this; otherwise it only observes them.
    #[inline]
    pub(in crate::server) fn is_fed(&self) -> bool {
        self.is_fed
    }

    /// How often new streams have been held back.
    pub(in crate::server) fn holds(&self) -> u32 {
        self.holds
    }

    /// Whether a stream is open.
    pub(in crate::server) fn has_streams(&self) -> bool {
        !self.seen.streams.is_empty()
    }

    /// The library has read these bytes straight from the client.
    #[inline]
    pub(in crate::server) fn observe_client(&mut self, bytes: &[u8]) {
        self.inbound.observe(bytes, &mut self.seen);
    }

    /// The library has written these bytes straight to the client.
    #[inline]
    pub(in crate::server) fn observe_library(&mut self, bytes: &[u8]) {
        self.outbound.observe(bytes, &mut self.seen);
    }

    /// The client has sent these bytes.
    pub(in crate::server) fn feed_client(&mut self, bytes: &[u8]) {
        self.inbound.feed(bytes, &mut self.seen, &mut self.outbound);
        match self.step {
            Step::Asked if self.inbound.holds() => self.start_holding(),
            // The acknowledgement comes too late.
            Step::Stays(_) => self.inbound.release(&mut self.seen),
            _ => {}
        }
        self.check();
    }

    /// The client has closed its side.
    pub(in crate::server) fn end_client(&mut self) {
        self.inbound.end(&mut self.seen);
        if self.step != Step::Passing {
            self.stay(UnmovedReason::GoingAway);
        }
    }

    /// The library has written these bytes.
    pub(in crate::server) fn feed_library(&mut self, bytes: &[u8]) {
        let fed = self.outbound.feed(bytes, &mut self.seen);
        self.refuse_if(fed);
        self.check();
    }

    /// The library has flushed.
    pub(in crate::server) fn flushed(&mut self) {
        let flushed = self.outbound.flushed(&mut self.seen);
        self.refuse_if(flushed);
    }

    /// A new instance of the library that does not go on where the last one stopped is no use to the client.
    fn refuse_if(&mut self, result: Result<(), UnmovedReason>) {
        if result.is_err() {
            self.inbound.refuse_all(&mut self.seen, &mut self.outbound);
        }
    }

    /// Bytes for the socket.
    pub(in crate::server) fn out(&mut self) -> &[u8] {
        self.inbound.pay_credit(&mut self.outbound);
        self.outbound.pump(&mut self.seen);
        self.outbound.out()
    }

    /// So many of them were written.
    pub(in crate::server) fn advance(&mut self, written: usize) {
        self.outbound.advance(written);
    }

    /// Whether DATA waits for the client's `WINDOW_UPDATE`.
    pub(in crate::server) fn has_waiting_data(&self) -> bool {
        !self.outbound.gate.is_empty()
    }

    /// The library reads at most so many bytes.
    pub(in crate::server) fn take(&mut self, most: usize) -> Taken {
        self.inbound.take(most)
    }

    /// Whether bytes of the client are to be read now.
    pub(in crate::server) fn wants_client(&self) -> bool {
        self.outbound.is_done_opening() && self.inbound.wants_more()
    }

    /// Whether the library gets nothing any more: its client was sent away.
    pub(in crate::server) fn is_over(&self) -> bool {
        self.inbound.is_over(&self.seen) && self.outbound.out().is_empty() && !self.outbound.has_inserted()
    }

    /// Bytes go straight between client and library again, if there is no reason why they should not.
    pub(in crate::server) fn pass_if_transparent(&mut self) {
        let is_transparent = self.step == Step::Passing
            && self.inbound.is_transparent(&self.seen)
            && self.outbound.is_transparent()
            && !self.seen.awaits_layer();
        self.is_fed = !is_transparent;
    }

    /// Whether a move can be asked for, and is not yet.
    pub(in crate::server) fn can_be_asked(&self) -> bool {
        self.step == Step::Passing && self.outbound.is_done_opening()
    }

    /// A move is asked for: the client is to use no table.
    pub(in crate::server) fn ask(&mut self) {
        if !self.can_be_asked() {
            return;
        }
        if !std::mem::replace(&mut self.is_fed, true) {
            self.inbound.start_feeding();
            self.outbound.start_feeding();
        }
        let mut values = Settings::default();
        values.set(HEADER_TABLE_SIZE, 0);
        self.outbound.announce(values, &mut self.seen);
        self.step = Step::Asked;
        self.check();
    }

    fn start_holding(&mut self) {
        self.step = Step::Holding;
        self.holds += 1;
        self.in_the_way = self.seen.highest;
        self.inbound.hold();
    }

    /// New streams have waited for long enough.
    pub(in crate::server) fn stop_holding(&mut self) {
        if self.step == Step::Holding {
            self.step = Step::Emptied;
            self.inbound.release(&mut self.seen);
        }
    }

    /// Holds new streams back again, if those that were in the way the last time have ended.
    pub(in crate::server) fn hold_again(&mut self) {
        let is_free = self.seen.streams.first().is_some_and(|first| first > self.in_the_way);
        if self.step == Step::Emptied && is_free && self.holds < MOST_HOLDS {
            self.start_holding();
        }
    }

    /// The connection does not move.
    pub(in crate::server) fn stay(&mut self, why: UnmovedReason) {
        if !matches!(self.step, Step::Stays(_)) {
            self.stop_holding();
            self.inbound.release(&mut self.seen);
            self.step = Step::Stays(why);
        }
    }

    fn check(&mut self) {
        if let Some(fault) = self.seen.fault().filter(|_| self.step != Step::Passing) {
            self.stay(fault);
        }
    }

    /// Whether the connection can move now, if the library reads, has flushed, and answers nothing any more.
    pub(in crate::server) fn is_quiet(&self) -> bool {
        matches!(self.step, Step::Holding | Step::Emptied)
            && self.inbound.is_quiet()
            && self.outbound.is_quiet()
            && self.seen.is_quiet()
    }

    /// What the next instance of the library must know, and what it reads first.
    pub(in crate::server) fn depart(&mut self) -> (Http2Record, Bytes) {
        let (highest_stream, bytes) = self.inbound.depart(&self.seen);
        let record = Http2Record {
            client_settings: self.seen.client.pairs().collect(),
            own_settings: self.seen.own.pairs().collect(),
            highest_stream,
            send_window: window(self.seen.send_window),
            receive_window: window(self.seen.receive_window),
            table_emptied: !self.inbound.is_unproven(),
        };
        (record, bytes.into())
    }
}

/// A window as it travels: one that is overdrawn lets nothing pass.
fn window(window: i64) -> u32 {
    u32::try_from(window.max(0)).unwrap_or(u32::MAX)
}
