//! The values of SETTINGS (RFC 9113, section 6.5.2; RFC 8441, section 3).

/// `SETTINGS_HEADER_TABLE_SIZE`.
pub(super) const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
/// `SETTINGS_MAX_CONCURRENT_STREAMS`.
pub(in crate::server) const MAX_CONCURRENT_STREAMS: u16 = 3;
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
pub(in crate::server) const INITIAL_WINDOW_SIZE: u16 = 4;
/// `SETTINGS_MAX_FRAME_SIZE`.
pub(in crate::server) const MAX_FRAME_SIZE: u16 = 5;
/// `SETTINGS_MAX_HEADER_LIST_SIZE`.
pub(in crate::server) const MAX_HEADER_LIST_SIZE: u16 = 6;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// Those that limit the client: a greater value allows it more.
pub(super) const LIMITS: [u16; 5] =
    [MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL];

/// How many values a side can have set.
const KNOWN: usize = 7;

/// The last value of each setting of one side. A setting that is not known means nothing to the library, and is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings([Option<u32>; KNOWN]);

impl Settings {
    /// Notes a value; false if the protocol does not allow it.
    pub(super) fn set(&mut self, id: u16, value: u32) -> bool {
        let is_allowed = match id {
            ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL => value <= 1,
            INITIAL_WINDOW_SIZE => value < 1 << 31,
            MAX_FRAME_SIZE => (1 << 14..1 << 24).contains(&value),
            _ => true,
        };
        if let Some(known) = slot(id).and_then(|slot| self.0.get_mut(slot)) {
            *known = Some(value);
        }
        is_allowed
    }

    pub(super) fn get(&self, id: u16) -> Option<u32> {
        self.0.get(slot(id)?).copied().flatten()
    }

    /// The value that counts: the one that was set last, or the one that the protocol begins with.
    pub(super) fn value(&self, id: u16) -> u32 {
        self.get(id).unwrap_or(match id {
            HEADER_TABLE_SIZE => 4096,
            ENABLE_PUSH => 1,
            INITIAL_WINDOW_SIZE => 65_535,
            MAX_FRAME_SIZE => 16_384,
            ENABLE_CONNECT_PROTOCOL => 0,
            _ => u32::MAX,
        })
    }

    /// Takes over what `other` sets.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = theirs.or(*mine);
        }
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        (1..=8).filter_map(|id| Some((id, self.get(id)?)))
    }

    /// `None` if one of them is not known, or has a value that is not allowed.
    pub(super) fn from_pairs(pairs: &[(u16, u32)]) -> Option<Self> {
        let mut settings = Self::default();
        pairs.iter().all(|&(id, value)| slot(id).is_some() && settings.set(id, value)).then_some(settings)
    }
}

fn slot(id: u16) -> Option<usize> {
    match id {
        1..=6 => Some(usize::from(id) - 1),
        ENABLE_CONNECT_PROTOCOL => Some(6),
        _ => None,
    }
}
