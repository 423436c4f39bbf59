//! What a server knows of its handoffs until it runs.

use crate::handoff::{Calls, Handoff, Options};

/// The options of the handoffs, and the handle on them.
#[derive(Debug)]
pub(in crate::server) struct Settings {
    pub(super) options: Options,
    /// The handle, and the calls of its clones.
    pub(super) channel: (Handoff, Calls),
}

impl Settings {
    /// The options, and the handle with the calls of its clones, once.
    pub(in crate::server) fn take(&mut self) -> (Options, (Handoff, Calls)) {
        let Self { options, channel } = std::mem::take(self);
        (options, channel)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { options: Options::default(), channel: Handoff::new() }
    }
}
