//! The table of the client's header compression (RFC 7541): whether the client has emptied it, as it has acknowledged.

use super::{
    frame::{Head, kind},
    header_block::BlockWalk,
};

/// After so many entries an older one is in no table of 4,096 bytes: each takes 32 and more (RFC 7541, section 4.1).
const MOST_ENTRIES: u32 = 4096 / 32;

/// What the header blocks of a client have shown of its table.
#[derive(Debug)]
pub(super) struct ClientTable {
    /// The client has acknowledged that there is no table, and no header block has shown yet that it obeys.
    is_unproven: bool,
    /// How many entries were inserted since.
    inserted: u32,
    /// Entries that are inserted after that are known to the library that goes on.
    is_followed: bool,
    /// The header block that is looked at.
    walk: Option<BlockWalk>,
}

/// What a header block shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Unknown,
    /// The client has emptied its table.
    Emptied,
    /// A library that has an empty table does not decode it as the client means it.
    Disobeyed,
}

impl ClientTable {
    /// A table that the library knows.
    pub(super) fn known() -> Self {
        Self { is_unproven: false, inserted: 0, is_followed: false, walk: None }
    }

    /// A table that was emptied before the library had seen any of it.
    pub(super) fn resumed(is_unproven: bool) -> Self {
        Self { is_unproven, is_followed: true, ..Self::known() }
    }

    /// The client has acknowledged that there is none.
    pub(super) fn acknowledged(&mut self) {
        *self = Self { is_unproven: true, ..Self::known() };
    }

    /// The library is to decode what comes, whatever it is.
    pub(super) fn give_up(&mut self) {
        *self = Self::known();
    }

    pub(super) fn is_unproven(&self) -> bool {
        self.is_unproven
    }

    /// Whether a block has inserted an entry since the client has said that there is no table.
    pub(super) fn has_inserted(&self) -> bool {
        self.inserted > 0
    }

    /// Whether a header block is looked at.
    pub(super) fn is_watching(&self) -> bool {
        self.walk.is_some()
    }

    /// A frame begins. A header block is looked at as long as it matters what it has; always if the library does not see it.
    pub(super) fn frame(&mut self, head: Head, is_swallowed: bool) {
        if head.kind == kind::HEADERS {
            self.walk = (self.is_unproven || is_swallowed).then(|| BlockWalk::new(self.inserted));
        }
        if let (Some(walk), kind::HEADERS | kind::CONTINUATION) = (&mut self.walk, head.kind) {
            walk.frame(head);
        }
    }

    /// Some of the payload of that frame.
    pub(super) fn payload(&mut self, payload: &[u8], is_swallowed: bool) -> Verdict {
        let Some(walk) = &mut self.walk else { return Verdict::Unknown };
        walk.feed(payload);
        let found = walk.found;
        // The library would not know of what a block that is swallowed does to the table.
        let is_lost = is_swallowed && (found.resized || found.inserted > 0);
        // Behind the change of its size a block that the library sees is not looked at, however it is cut.
        let is_malformed = found.malformed && (is_swallowed || !found.emptied);
        if is_lost || is_malformed || (self.is_unproven && found.used_older) {
            self.give_up();
            return Verdict::Disobeyed;
        }
        if found.emptied && !is_swallowed {
            (self.walk, self.is_unproven) = (None, false);
            return Verdict::Emptied;
        }
        Verdict::Unknown
    }

    /// The header block has come to its end.
    pub(super) fn end_block(&mut self) {
        let Some(walk) = self.walk.take() else { return };
        self.inserted = self.inserted.saturating_add(walk.found.inserted);
        // Both sides have the same table again.
        self.is_unproven &= !(self.is_followed && self.inserted >= MOST_ENTRIES);
    }
}
