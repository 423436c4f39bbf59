//! The streams that are open on the wire.

/// One side's part of a stream has ended.
const CLIENT_ENDED: u8 = 1;
const SERVER_ENDED: u8 = 2;

/// The streams of a connection that have not ended in both directions, in the order of their identifiers.
///
/// Identifiers of one client increase, so a stream that is opened goes to the end.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenStreams(Vec<(u32, u8)>);

impl OpenStreams {
    pub(super) fn open(&mut self, id: u32) {
        self.0.push((id, 0));
    }

    pub(super) fn is_open(&self, id: u32) -> bool {
        self.find(id).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest one.
    pub(super) fn first(&self) -> Option<u32> {
        self.0.first().map(|(id, _)| *id)
    }

    pub(super) fn client_ended(&mut self, id: u32) {
        self.ended(id, CLIENT_ENDED);
    }

    pub(super) fn server_ended(&mut self, id: u32) {
        self.ended(id, SERVER_ENDED);
    }

    /// It was reset, by either side.
    pub(super) fn reset(&mut self, id: u32) {
        self.ended(id, CLIENT_ENDED | SERVER_ENDED);
    }

    #[inline]
    fn ended(&mut self, id: u32, by: u8) {
        let Some(place) = self.find(id) else { return };
        self.0[place].1 |= by;
        if self.0[place].1 == CLIENT_ENDED | SERVER_ENDED {
            self.0.remove(place);
        }
    }

    #[inline]
    fn find(&self, id: u32) -> Option<usize> {
        // The only one, or the one that came last, in most cases.
        match self.0.last() {
            Some((last, _)) if *last == id => Some(self.0.len() - 1),
            _ => self.0.binary_search_by_key(&id, |(id, _)| *id).ok(),
        }
    }
}
