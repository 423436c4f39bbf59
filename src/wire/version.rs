//! The versions of the protocol that this build speaks.

/// The newest version.
pub(crate) const VERSION: u32 = 2;

/// The oldest version.
pub(crate) const OLDEST_VERSION: u32 = 1;

/// The first version in which each record carries its length.
pub(super) const WITH_LENGTHS: u32 = 2;

/// The version that is spoken with a process whose newest version is `newest`.
pub(crate) fn common_version(newest: u32) -> u32 {
    newest.min(VERSION)
}
