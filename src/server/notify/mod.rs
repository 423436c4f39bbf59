//! The service manager: what the server reports to it, and what the service adds to that.
//!
//! | when | message |
//! | --- | --- |
//! | the server accepts | `READY=1`, `STATUS=` |
//! | `ready_when` takes its time | `EXTEND_TIMEOUT_USEC=`, until `start_timeout` |
//! | a handoff begins | `RELOADING=1`, then `MAINPID=` of the new process |
//! | the drain starts, and there is no successor | `STOPPING=1` |
//! | it drains | `EXTEND_TIMEOUT_USEC=`, `STATUS=` once a second at most |
//! | `WatchdogSec=` is set | `WATCHDOG=1` twice within it |
//! | it ends | `STATUS=` with the report, or with the error |

mod announcer;
mod health;
mod idle;
mod options;
mod reporter;
mod settings;
mod status;
mod watchdog;

pub(super) use self::{announcer::Announcer, idle::IdleExit, settings::Settings};
