//! What the test programs share: processes to start and talk to, clients, a service manager, and a private systemd.
//!
//! Each program has it as `mod support;` in its root.
#![allow(dead_code, reason = "no program uses all of it")]

#[cfg(feature = "tls-ring")]
pub(crate) mod certificates;
pub(crate) mod clients;
pub(crate) mod fd_table;
#[cfg(feature = "server")]
pub(crate) mod generation;
pub(crate) mod http;
#[cfg(feature = "server")]
pub(crate) mod kept;
pub(crate) mod lasting;
pub(crate) mod load;
pub(crate) mod looks;
pub(crate) mod manager;
pub(crate) mod needs;
pub(crate) mod old_build;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod proxies;
#[cfg(feature = "server")]
pub(crate) mod real;
#[cfg(feature = "server")]
pub(crate) mod running;
pub(crate) mod seen;
#[cfg(feature = "server")]
pub(crate) mod service;
pub(crate) mod sockets;
pub(crate) mod streams;
pub(crate) mod subprocess;
#[cfg(feature = "server")]
pub(crate) mod successive;
pub(crate) mod systemd;
pub(crate) mod wait;
