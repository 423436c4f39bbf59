//! Every raw system call of the crate, behind safe functions; the only place with `unsafe`.
//!
//! `rustix` and `socket2` where they can, `libc` where they cannot. Nothing here knows of names, environments or HTTP.
#![expect(unsafe_code, reason = "claiming inherited descriptors by number and forking have no safe equivalent")]

pub(crate) mod exec;
pub(crate) mod inherit;
pub(crate) mod lock;
pub(crate) mod memfd;
pub(crate) mod notify;
pub(crate) mod path;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod scm;
pub(crate) mod seqpacket;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod timer;
