//! Every raw system call of the crate, behind safe functions; the only place with `unsafe`.
//!
//! `rustix` and `socket2` where they can, `libc` where they cannot. Nothing here knows of names, environments or HTTP:
//! a function takes descriptors, paths and numbers, and says what the kernel says.
//!
//! What needs `unsafe`, and the file that argues for it:
//!
//! | file | why |
//! | --- | --- |
//! | [`inherit`] | a descriptor that was passed is known by its number alone |
//! | [`exec`] | `clone(2)` with shared memory, and what runs before `execve(2)` |
//! | [`signals`] | `sigaction(2)` and masks, for signals that tokio does not handle yet |
//! | [`process`], [`peer`] | `pidfd` questions and socket options that `rustix` does not have |
//! | [`terminal`] | `getsid(2)`, which may answer 0 |
//!
//! Each block has one operation and a `SAFETY` comment.
#![expect(unsafe_code, reason = "claiming inherited descriptors by number and forking have no safe equivalent")]

#[cfg(feature = "handoff")]
pub(crate) mod exec;
pub(crate) mod inherit;
pub(crate) mod lock;
#[cfg(feature = "handoff")]
pub(crate) mod memfd;
pub(crate) mod notify;
pub(crate) mod path;
pub(crate) mod peer;
pub(crate) mod process;
#[cfg(feature = "handoff")]
pub(crate) mod scm;
#[cfg(feature = "handoff")]
pub(crate) mod seqpacket;
#[cfg(feature = "handoff")]
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod table;
#[cfg(feature = "handoff")]
pub(crate) mod terminal;
#[cfg(feature = "server")]
pub(crate) mod timer;
