//! Sockets by name: from the environment, from fallbacks, each owned once.
//!
//! systemd and other launchers pass sockets as file descriptors, and say in `LISTEN_*` variables how many there are and
//! what they are called (`sd_listen_fds(3)`). [`ActivatedListeners`] is the set of these sockets. What was not passed
//! is bound from a fallback, so that the same program runs under systemd, in a container and in a shell:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), axum_activation::Error> {
//! use axum_activation::ActivatedListeners;
//!
//! let activated = ActivatedListeners::builder()
//!     .fallback("http", "127.0.0.1:0")
//!     .fallback("admin", "@axum-activation-admin")
//!     .from_env()?;
//! let (http, admin) = (activated.one("http")?, activated.one("admin")?);
//! println!("serving at {} and {}", http.local_addrs()[0], admin.local_addrs()[0]);
//! # Ok(())
//! # }
//! ```
//!
//! What holds:
//!
//! - The environment is read once a process, and never edited.
//! - Each descriptor has one owner. It is close-on-exec and non-blocking from the moment it is claimed.
//! - What a socket is comes from the kernel (`SO_DOMAIN`, `SO_TYPE`, `SO_ACCEPTCONN`), and not from its name.
//! - An error takes nothing: a set that cannot be claimed, bound or taken as asked is as it was before.

mod builder;
mod claim;
mod environment;
#[cfg(feature = "handoff")]
mod export;
mod exported;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
#[cfg(feature = "handoff")]
mod import;
mod info;
mod loan;
#[cfg(feature = "handoff")]
mod moved;
mod names;
#[cfg(feature = "handoff")]
mod predecessor;
mod requirement;
mod restored;
mod set;
mod slot;
#[cfg(feature = "handoff")]
mod start_context;
mod stored;
mod take;
#[cfg(not(feature = "handoff"))]
mod unlinked;

#[cfg(feature = "server")]
pub(crate) use self::names::CONNECTIONS_NAME;
pub use self::{builder::ActivatedListenersBuilder, claim::ForeignPid, info::ActivatedSocket, set::ActivatedListeners};
#[cfg(feature = "handoff")]
pub(crate) use self::{
    environment::BOUND,
    exported::{ExportedSocket, Provenance},
    names::{CONTROL_NAME, check_name},
    predecessor::Predecessor,
    start_context::{HELD_OFF, Parent, StartContext, held_off},
};
