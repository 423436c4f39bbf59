//! systemd: what a server reports to it, and when it leaves it to systemd to start the service again.

mod announcer;
mod health;
mod idle;
mod options;
mod reporter;
mod settings;
mod status;
mod watchdog;

pub(super) use self::{announcer::Announcer, idle::IdleExit, settings::Settings};
