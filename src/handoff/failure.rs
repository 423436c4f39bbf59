//! The errors of a handoff that failed, in the old process and in the new one.

use crate::error::{Error, Kind};

/// The handoff failed for `reason`, and the old process serves on ([`is_handoff_failure`](Error::is_handoff_failure)).
pub(crate) fn failed(reason: impl Into<String>) -> Error {
    Kind::Handoff { reason: format!("{}; this process serves on", reason.into()) }.into()
}

/// A stop of this process came before the commit of the handoff ([`is_handoff_failure`](Error::is_handoff_failure)).
pub(crate) fn stopped() -> Error {
    Kind::Handoff { reason: "this process was asked to stop before the commit, and drains".to_owned() }.into()
}

/// The old process does not hand over, for `reason`.
pub(crate) fn refused(reason: impl Into<String>) -> Error {
    Kind::Predecessor { reason: reason.into() }.into()
}
