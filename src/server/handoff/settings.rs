//! What a server is to do at a handoff.

use tokio::sync::mpsc::UnboundedReceiver;

use crate::handoff::{Handoff, handle::Call, options::Options};

/// What a server keeps of it until it runs.
#[derive(Debug)]
pub(in crate::server) struct Settings {
    pub(super) options: Options,
    pub(super) handle: Handoff,
    pub(super) calls: UnboundedReceiver<Call>,
}

impl Default for Settings {
    fn default() -> Self {
        let (handle, calls) = Handoff::new();
        Self { options: Options::default(), handle, calls }
    }
}
