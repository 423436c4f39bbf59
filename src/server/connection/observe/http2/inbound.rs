//! From the client to the library: frames of new streams wait for a move, and what is no business of a new instance of the
//! library is swallowed.

mod route;

use super::{
    frame::{self, Head, code, flag, kind},
    held::Held,
    outbound::Outbound,
    ready::{Ready, Taken},
    seen::{Gather, Seen},
    table::{ClientTable, Verdict},
    walk::{Piece, Walker},
};
use crate::drain::UnmovedReason;

/// How much is read of the client before the library has taken it.
const MOST_READY: usize = 64 * 1024;

/// The longest header block that is put together before the library sees it.
const MOST_CHECKED: usize = 64 * 1024;

/// Where the current frame of the client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Library,
    /// It waits for the move.
    Held,
    /// It waits until its header block is known to be one that a new instance of the library understands.
    Checked,
    Nothing,
    /// It is a `WINDOW_UPDATE` of which the library is to see a part.
    Window,
}

/// What is done with the frames of a client that the library must not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Streams that are open go on to their end.
    New,
    All,
}

/// Frames on their way to the library.
#[derive(Debug)]
pub(super) struct Inbound {
    walker: Walker,
    /// How much of the header that is coming the library got before frames were looked at.
    passed_head: usize,
    /// The stream of a header block that is not complete, or 0.
    block: u32,
    to: To,
    ready: Ready,
    held: Held,
    holds: bool,
    table: ClientTable,
    /// Frames of a header block that is looked at, if the library is to get them later.
    checked: Vec<u8>,
    /// The library is a new instance, and knows nothing of streams up to this one.
    is_resumed: bool,
    old: u32,
    /// DATA that the library does not see, and that the client may send again.
    credit: u32,
    refusal: Option<Refusal>,
    gather: Gather,
}

impl Inbound {
    /// From a client that is about to send its preface.
    pub(super) fn new() -> Self {
        Self {
            walker: Walker::new(24),
            passed_head: 0,
            block: 0,
            to: To::Library,
            ready: Ready::default(),
            held: Held::default(),
            holds: false,
            table: ClientTable::known(),
            checked: Vec::new(),
            is_resumed: false,
            old: 0,
            credit: 0,
            refusal: None,
            gather: Gather::default(),
        }
    }

    /// From a client that has used streams up to `old`; the library reads `opening` first.
    pub(super) fn resumed(old: u32, is_unproven: bool, opening: &[u8]) -> Self {
        let table = ClientTable::resumed(is_unproven);
        let mut inbound = Self { walker: Walker::new(0), is_resumed: true, old, table, ..Self::new() };
        inbound.ready.push(opening);
        inbound
    }

    /// Notes what the library has read straight from the client.
    #[inline]
    pub(super) fn observe(&mut self, bytes: &[u8], seen: &mut Seen) {
        let Self { walker, block, .. } = self;
        walker.each(bytes, |head, payload| match payload {
            None => {
                note_block(block, head, seen);
                seen.client_frame(head);
            }
            Some(payload) => seen.client_payload(head, payload),
        });
    }

    /// From now on frames are looked at before the library gets them.
    pub(super) fn start_feeding(&mut self) {
        self.passed_head = self.walker.partial().len();
        self.to = To::Library;
    }

    /// Whether the library may read straight from the client.
    pub(super) fn is_transparent(&self, seen: &Seen) -> bool {
        let has_nothing = self.ready.is_empty() && self.checked.is_empty() && self.credit == 0;
        let is_between_frames = self.walker.is_between_frames() && self.block == 0;
        // The library takes a frame for an old stream to be an error until it has seen a newer one.
        let knows_old = !self.is_resumed || seen.highest > self.old;
        let is_plain = !self.holds && !self.table.is_unproven() && self.refusal.is_none();
        has_nothing && is_between_frames && knows_old && is_plain
    }

    /// Whether the library has all that it is to get, and nothing of a frame that is not complete.
    pub(super) fn is_quiet(&self) -> bool {
        let waits = self.to == To::Held;
        let between = (!self.walker.is_in_frame() && self.block == 0) || waits;
        between
            && self.ready.is_empty()
            && self.checked.is_empty()
            && self.credit == 0
            && self.passed_head == 0
            && self.refusal.is_none()
    }

    /// Whether more is to be read of the client.
    pub(super) fn wants_more(&self) -> bool {
        self.ready.len() < MOST_READY && !(self.holds && self.held.is_full())
    }

    /// Whether frames of new streams wait.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Frames of new streams wait from now on.
    pub(super) fn hold(&mut self) {
        self.holds = true;
    }

    /// Whether no header block has shown yet that the client has emptied its table.
    pub(super) fn is_unproven(&self) -> bool {
        self.table.is_unproven()
    }

    /// Whether nothing of the client reaches the library any more.
    pub(super) fn is_over(&self, seen: &Seen) -> bool {
        match self.refusal {
            Some(Refusal::All) => true,
            Some(Refusal::New) => seen.streams.is_empty(),
            None => false,
        }
    }

    /// The library reads.
    pub(super) fn take(&mut self, most: usize) -> Taken {
        self.ready.take(most)
    }

    /// The highest stream that the next process must take for an old one, and what it reads first.
    pub(super) fn depart(&mut self, seen: &Seen) -> (u32, Vec<u8>) {
        let old = seen.highest.max(self.held.highest_free());
        let mut bytes = self.held.take();
        bytes.extend_from_slice(self.walker.partial());
        (old, bytes)
    }

    /// The client has sent these bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], seen: &mut Seen, out: &mut Outbound) {
        while let Some(piece) = self.walker.step(&mut bytes) {
            match piece {
                Piece::Head(head) => {
                    self.head(head, seen, out);
                    if head.length == 0 {
                        self.end_frame(head, seen);
                    }
                }
                Piece::Payload(payload, ends) => self.payload(payload, ends, seen, out),
            }
        }
        self.pay_credit(out);
    }

    /// Lets the client send as much again as was swallowed; one frame at a time, however much it is.
    pub(super) fn pay_credit(&mut self, out: &mut Outbound) {
        if self.credit > 0 && !out.has_inserted() && out.out().is_empty() {
            out.insert(&frame::window_update(0, std::mem::take(&mut self.credit)));
        }
    }

    /// Frames that wait go to the library after all.
    pub(super) fn release(&mut self, seen: &mut Seen) {
        self.holds = false;
        self.deliver_released(seen);
    }

    /// Delivers what is no longer held back. If a frame or a header block is under way that nothing may interrupt, after that.
    fn deliver_released(&mut self, seen: &mut Seen) {
        let is_between = match self.to {
            To::Library => !self.walker.is_in_frame() && self.block == 0,
            // It may yet be one that the library must not see.
            To::Held => !(self.is_resumed && self.table.is_watching()),
            _ => true,
        };
        if is_between && !self.holds {
            self.deliver_held(seen);
        }
    }

    fn deliver_held(&mut self, seen: &mut Seen) {
        let held = self.held.take();
        self.deliver(&held, seen);
        if self.to == To::Held {
            self.to = To::Library;
        }
    }

    /// The client has closed its side.
    pub(super) fn end(&mut self, seen: &mut Seen) {
        self.release(seen);
        if self.to == To::Held {
            self.deliver_held(seen);
        }
        let checked = std::mem::take(&mut self.checked);
        self.deliver(&checked, seen);
        let partial = self.walker.partial().get(self.passed_head..).unwrap_or_default().to_vec();
        self.ready.push(&partial);
    }

    /// The library gets whole frames, and perhaps the beginning of another one.
    fn deliver(&mut self, mut bytes: &[u8], seen: &mut Seen) {
        let mut walker = Walker::new(0);
        while let Some(piece) = walker.step(&mut bytes) {
            let ends = match piece {
                Piece::Head(head) => {
                    seen.client_frame(head);
                    self.ready.push(&head.encode());
                    head.length == 0
                }
                Piece::Payload(payload, ends) => {
                    self.ready.push(payload);
                    ends
                }
            };
            if let Some(head) = walker.current().filter(|_| ends) {
                self.ready.end_frame(head);
            }
        }
    }

    /// The bytes are not what the protocol allows: the library is to see all of them in order, and says so to the client.
    #[cold]
    fn confuse(&mut self, seen: &mut Seen) -> To {
        seen.note_fault(UnmovedReason::NotUnderstood);
        let checked = std::mem::take(&mut self.checked);
        self.deliver(&checked, seen);
        self.holds = false;
        self.deliver_held(seen);
        self.table.give_up();
        To::Library
    }

    fn head(&mut self, head: Head, seen: &mut Seen, out: &mut Outbound) {
        let passed = std::mem::take(&mut self.passed_head);
        let fits = note_block(&mut self.block, head, seen);
        self.to = match () {
            () if self.refusal.is_some() => self.route_refused(head, seen, out),
            () if passed > 0 => To::Library,
            () if !fits || !head.is_well_formed() => self.confuse(seen),
            () if head.kind == kind::CONTINUATION => self.to,
            () => self.route(head, seen, out),
        };
        self.watch(head);
        match self.to {
            To::Library => {
                seen.client_frame(head);
                self.ready.push(&head.encode()[passed..]);
            }
            To::Held => self.held.frame(head),
            To::Checked => self.checked.extend_from_slice(&head.encode()),
            To::Nothing | To::Window => self.gather.clear(),
        }
    }

    /// Looks at a header block while it matters what it has.
    fn watch(&mut self, head: Head) {
        if self.refusal.is_some() {
            return;
        }
        self.table.frame(head, self.to == To::Nothing);
        let is_block = matches!(head.kind, kind::HEADERS | kind::CONTINUATION);
        if is_block && self.is_resumed && self.to == To::Library && self.table.is_watching() {
            self.to = To::Checked;
        }
    }

    fn payload(&mut self, payload: &[u8], ends: bool, seen: &mut Seen, out: &mut Outbound) {
        let head = self.walker.current();
        match self.to {
            To::Library => {
                if let Some(head) = head {
                    seen.client_payload(head, payload);
                }
                self.ready.push(payload);
            }
            To::Held => self.held.push(payload),
            To::Checked => self.checked.extend_from_slice(payload),
            To::Window => self.window(payload, seen, out),
            To::Nothing => {}
        }
        self.judge(payload, seen, out);
        if let Some(head) = head.filter(|_| ends) {
            self.end_frame(head, seen);
        }
    }

    /// Looks at what a header block shows of the client's table.
    fn judge(&mut self, payload: &[u8], seen: &mut Seen, out: &mut Outbound) {
        // A block that is released may yet be one that the library must not see.
        let waits = !self.holds && self.to == To::Held && self.table.is_watching();
        let is_too_long = self.checked.len() > MOST_CHECKED || (waits && self.held.is_full());
        match self.table.payload(payload, self.to == To::Nothing) {
            Verdict::Unknown if is_too_long => self.disobeyed(seen, out),
            Verdict::Unknown => {}
            Verdict::Emptied => {
                self.pass_checked(seen);
                self.deliver_released(seen);
            }
            Verdict::Disobeyed => self.disobeyed(seen, out),
        }
    }

    /// The client uses a table that it has said to be without.
    #[cold]
    fn disobeyed(&mut self, seen: &mut Seen, out: &mut Outbound) {
        self.table.give_up();
        if self.is_resumed {
            if let Some(head) = self.walker.current().filter(|head| seen.streams.is_open(head.stream)) {
                self.refuse_trailers(head.stream, seen, out);
            }
            self.refuse(Refusal::New, code::NO_ERROR, seen, out);
        }
        seen.note_fault(UnmovedReason::IgnoresTableSize);
        // From here on the library must see each block, or its table is another than the client's.
        self.release(seen);
    }

    fn pass_checked(&mut self, seen: &mut Seen) {
        if self.to == To::Checked {
            let checked = std::mem::take(&mut self.checked);
            self.deliver(&checked, seen);
            self.to = To::Library;
        }
    }

    fn end_frame(&mut self, head: Head, seen: &mut Seen) {
        if self.to == To::Library {
            self.ready.end_frame(head);
        }
        if head.ends_block() {
            self.table.end_block();
            self.pass_checked(seen);
        }
        self.deliver_released(seen);
    }

    /// The library sees as much of a `WINDOW_UPDATE` as is not withheld from it.
    fn window(&mut self, payload: &[u8], seen: &mut Seen, out: &mut Outbound) {
        let Some(increment) = self.gather.increment(payload) else { return };
        seen.send_window += i64::from(increment);
        let visible = if increment == 0 { 0 } else { out.gate.withhold(increment) };
        if visible > 0 || increment == 0 {
            self.ready.push(&frame::window_update(0, visible));
        }
        out.pump(seen);
    }
}

/// Follows header blocks, which no other frame may interrupt (RFC 9113, section 6.10).
#[inline]
fn note_block(block: &mut u32, head: Head, seen: &mut Seen) -> bool {
    let goes_on = head.kind == kind::CONTINUATION;
    let fits = if goes_on { *block == head.stream && *block != 0 } else { *block == 0 };
    if !fits {
        seen.note_fault(UnmovedReason::NotUnderstood);
    }
    if goes_on || head.kind == kind::HEADERS {
        *block = if head.has(flag::END_HEADERS) { 0 } else { head.stream };
    }
    fits
}
