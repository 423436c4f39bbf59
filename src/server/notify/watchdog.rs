//! Feeds the manager's watchdog from within the runtime, so that a runtime that is stuck feeds it no more.
//!
//! A thread of its own would feed it for ever, whatever the service does. So this is a task: it runs only if the
//! runtime still runs tasks.

use std::{io, time::Duration};

use tokio::time::{sleep, timeout};

use super::{health::HealthCheck, reporter::Reporter};
use crate::sys::timer::Ticker;

/// Feeds twice within `interval`, for ever. While `check` returns errors, it is asked four times as often and nothing is fed.
pub(super) async fn feed(reporter: &Reporter, interval: Duration, check: Option<HealthCheck>) -> io::Result<()> {
    let ticker = Ticker::every(interval / 2)?;
    loop {
        let health = match &check {
            Some(check) if reporter.is_serving() => ask(check, interval / 4).await,
            _ => Ok(()),
        };
        let is_well = health.is_ok();
        reporter.note_health(health.err());
        if is_well {
            reporter.feed();
            ticker.tick().await?;
        } else {
            sleep(interval / 8).await;
        }
    }
}

async fn ask(check: &HealthCheck, limit: Duration) -> Result<(), String> {
    timeout(limit, check.ask()).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}
