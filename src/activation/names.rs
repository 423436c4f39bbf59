//! Names of passed sockets: what `LISTEN_FDNAMES` can carry, and which names this crate keeps for itself.

use crate::error::{Error, Kind};

/// The name of the control socket of a handoff among the descriptors that are passed. It is no name that a user would
/// give.
pub(crate) const CONTROL_NAME: &str = "axum-activation.handoff";

/// The name of every connection in systemd's fd store, and of the journals that describe them.
pub(crate) const CONNECTIONS_NAME: &str = "aa.c";

/// The longest name that `FileDescriptorName=` of `systemd.socket(5)` takes.
const LONGEST_NAME: usize = 255;

/// Checks `name` by the rule of `FileDescriptorName=`.
///
/// # Errors
///
/// The reason why `LISTEN_FDNAMES` cannot carry it.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        _ if name.len() > LONGEST_NAME => Err("it is longer than 255 bytes"),
        _ if name.contains(':') => Err("it contains ':'"),
        _ if name.bytes().any(|byte| byte.is_ascii_control()) => Err("it contains a control character"),
        _ if !name.is_ascii() => Err("it contains a character that is not ASCII"),
        _ => Ok(()),
    }
}

/// As [`check_name`], with an error for the caller of a public function.
pub(super) fn valid_name(name: &str) -> Result<(), Error> {
    check_name(name).map_err(|problem| Kind::Name { name: name.to_owned(), problem }.into())
}
