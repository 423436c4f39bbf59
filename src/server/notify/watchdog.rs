//! Feeds the manager's watchdog from within the runtime, so that one that is stuck feeds no more.

use std::{io, time::Duration};

use tokio::time::{sleep, timeout};

use super::{reporter::Reporter, verdict::HealthCheck};
use crate::sys::timer::Ticker;

/// Feeds twice within `interval`, for ever; while `check` says that something is wrong, asks it four times as often.
pub(super) async fn feed(reporter: &Reporter, interval: Duration, check: Option<HealthCheck>) -> io::Result<()> {
    let ticker = Ticker::every(interval / 2)?;
    loop {
        let fault = match &check {
            Some(check) if reporter.is_serving() => ask(check, interval / 4).await,
            _ => None,
        };
        let is_well = fault.is_none();
        reporter.note_health(fault);
        if is_well {
            reporter.feed();
            ticker.tick().await?;
        } else {
            sleep(interval / 8).await;
        }
    }
}

async fn ask(check: &HealthCheck, limit: Duration) -> Option<String> {
    match timeout(limit, check.ask()).await {
        Ok(fault) => fault,
        Err(_) => Some(format!("no answer within {limit:?}")),
    }
}
