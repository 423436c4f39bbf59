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
    /// The client has opened it, and perhaps ended its side with the same frame.
    #[inline]
    pub(super) fn open(&mut self, id: u32, has_ended: bool) {
        self.0.push((id, if has_ended { CLIENT_ENDED } else { 0 }));
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
        // The only one, or the one that came last, in most cases.
        if let Some((_, sides)) = self.0.last_mut().filter(|(last, _)| *last == id) {
            *sides |= by;
            if *sides == CLIENT_ENDED | SERVER_ENDED {
                self.0.pop();
            }
        } else if let Some(place) = self.find(id) {
            self.0[place].1 |= by;
            if self.0[place].1 == CLIENT_ENDED | SERVER_ENDED {
                self.0.remove(place);
            }
        }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id).ok()
    }
}
