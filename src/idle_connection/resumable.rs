//! What the next process must know of an HTTP/1 exchange without an end of its own, which a handler there resumes.

use serde::{Deserialize, Serialize};

/// The request, what its answer was, and the state that the handler leaves to the next process.
///
/// It holds credentials of the client, so it is never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResumableRecord {
    /// The method, the target and the headers of the request.
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// The status and those headers of the answer that decide how the following bytes are read.
    pub(crate) status: u16,
    pub(crate) answer: Vec<(String, Vec<u8>)>,
    /// What the handler leaves, and the version of that.
    pub(crate) state: Vec<u8>,
    pub(crate) state_version: u32,
}

impl std::fmt::Debug for ResumableRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumableRecord").field("status", &self.status).finish_non_exhaustive()
    }
}
