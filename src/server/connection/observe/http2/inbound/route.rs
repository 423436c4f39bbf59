//! Where a frame of the client goes.

use super::{Inbound, Refusal, To};
use crate::{
    drain::UnmovedReason,
    server::connection::observe::http2::{
        frame::{self, Head, code, kind},
        outbound::Outbound,
        seen::Seen,
        settings::HEADER_TABLE_SIZE,
    },
};

impl Inbound {
    pub(super) fn route(&mut self, head: Head, seen: &mut Seen, out: &mut Outbound) -> To {
        let Head { kind, stream, .. } = head;
        if head.is_settings_ack() && seen.next_is_of_layer() {
            self.acknowledged(seen);
            return To::Nothing;
        }
        if stream % 2 == 1 && stream <= self.old {
            return self.route_old(head, seen, out);
        }
        if stream > seen.highest && self.held.has_dropped(stream) {
            return self.route_dropped(head);
        }
        if stream % 2 == 1 && stream > seen.highest && stream <= self.held.highest() {
            return self.route_held(head);
        }
        match kind {
            kind::HEADERS if self.holds && stream % 2 == 1 && stream > seen.highest => {
                self.held.open(stream);
                To::Held
            }
            // Trailers may use what a block that waits has inserted into the table.
            kind::HEADERS if self.holds && self.table.has_inserted() => {
                self.disobeyed(seen, out);
                if self.refusal.is_some() { To::Nothing } else { To::Library }
            }
            kind::WINDOW_UPDATE if stream == 0 && out.gate.withholds() => To::Window,
            kind::RST_STREAM => {
                out.gate.reset(stream);
                To::Library
            }
            _ => To::Library,
        }
    }

    /// The client has acknowledged SETTINGS of the layer.
    fn acknowledged(&mut self, seen: &mut Seen) {
        let table_size = seen.acknowledged().and_then(|sent| sent.values.get(HEADER_TABLE_SIZE));
        if table_size == Some(0) {
            self.holds = true;
            self.table.acknowledged();
        }
    }

    /// A frame of a stream that waits.
    fn route_held(&mut self, head: Head) -> To {
        // What a block of it has inserted into the table is used by later ones.
        // To drop a stream copies all that waits, so it is not done again and again.
        if head.kind != kind::RST_STREAM || self.table.has_inserted() || self.held.is_full() {
            return To::Held;
        }
        let Some(data) = self.held.drop_stream(head.stream) else { return To::Held };
        self.credit = self.credit.saturating_add(data);
        To::Nothing
    }

    /// A frame of a stream that was reset before the library has heard of it: hyper ignores what comes behind a reset.
    fn route_dropped(&mut self, head: Head) -> To {
        if head.kind == kind::DATA {
            self.credit = self.credit.saturating_add(head.length);
        }
        To::Nothing
    }

    /// A frame of a stream that the library has never seen, which ended before the connection moved.
    fn route_old(&mut self, head: Head, seen: &mut Seen, out: &mut Outbound) -> To {
        match head.kind {
            // The client may have sent it before it knew that the stream was closed.
            kind::DATA => self.credit = self.credit.saturating_add(head.length),
            // What is not decoded here would leave the tables of both sides different, if the client has one again.
            kind::HEADERS if !seen.awaits_layer() => self.refuse(Refusal::All, code::STREAM_CLOSED, seen, out),
            _ => {}
        }
        To::Nothing
    }

    /// Sends the client away: what it has sent on streams that the library does not know it may send again.
    #[cold]
    pub(in crate::server::connection::observe::http2) fn refuse_all(&mut self, seen: &mut Seen, out: &mut Outbound) {
        self.refuse(Refusal::All, code::NO_ERROR, seen, out);
    }

    #[cold]
    pub(super) fn refuse(&mut self, refusal: Refusal, code: u32, seen: &mut Seen, out: &mut Outbound) {
        if self.refusal.replace(refusal).is_none() {
            out.insert(&frame::goaway(seen.highest.max(self.old), code));
            seen.note_fault(UnmovedReason::GoingAway);
            out.pump(seen);
        }
        (self.holds, self.to) = (false, To::Nothing);
        self.held.take();
        self.checked.clear();
    }

    /// A frame of a client that was sent away.
    pub(super) fn route_refused(&mut self, head: Head, seen: &mut Seen, out: &mut Outbound) -> To {
        let is_open = head.stream == 0 || seen.streams.is_open(head.stream);
        if self.refusal == Some(Refusal::All) || !is_open || head.is_settings_ack() {
            return To::Nothing;
        }
        if !matches!(head.kind, kind::HEADERS | kind::CONTINUATION) {
            return To::Library;
        }
        self.refuse_trailers(head.stream, seen, out);
        To::Nothing
    }

    /// Ends a stream whose trailers cannot be decoded.
    pub(super) fn refuse_trailers(&mut self, stream: u32, seen: &mut Seen, out: &mut Outbound) {
        self.ready.push(&frame::rst_stream(stream, code::CANCEL));
        out.insert(&frame::rst_stream(stream, code::INTERNAL_ERROR));
        seen.streams.reset(stream);
    }
}
