//! The error of a handoff that failed.

use crate::error::{Error, Kind};

/// The handoff failed for `reason`, and the old process serves on ([`is_handoff_failure`](Error::is_handoff_failure)).
pub(crate) fn failed(reason: impl Into<String>) -> Error {
    Kind::Handoff { reason: reason.into() }.into()
}
