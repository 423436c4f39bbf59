//! How many generations drain at a time: a handoff waits until an older one has ended.

use std::{future::pending, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{
    error::Error,
    handoff::{failure::failed, handle::Handoff, options::Options, requests::Trigger},
    log,
};

/// How much longer than the wait itself its outcome may take to arrive.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Which generation a process is, and how many older ones still drain.
#[derive(Clone, Debug)]
pub(crate) struct GenerationInfo {
    pub(super) generation: u64,
    pub(super) older: watch::Receiver<u32>,
}

impl GenerationInfo {
    pub(crate) fn new(handle: &Handoff) -> Self {
        Self { generation: handle.generation(), older: handle.older_sender().subscribe() }
    }

    /// Whether one more generation may drain.
    pub(crate) fn has_draining_slot(&self, options: &Options) -> bool {
        *self.older.borrow() < options.max_draining
    }

    /// Waits until one more generation may drain, before anything is done for the handoff that `trigger` is for.
    ///
    /// # Errors
    ///
    /// As many as may still drain after `handoff_timeout`, or the process at the rendezvous does not wait so long.
    ///
    /// # Cancel safety
    ///
    /// It only waits.
    pub(crate) async fn wait_for_draining_slot(&self, options: &Options, trigger: Trigger) -> Result<Trigger, Error> {
        match (self.wait(options, &trigger).await, trigger) {
            (Ok(()), trigger) => Ok(trigger),
            (Err(error), Trigger::Rendezvous(applicant)) => {
                applicant.refuse(&error.to_string());
                Err(error)
            }
            (Err(error), Trigger::Spawn) => Err(error),
        }
    }

    async fn wait(&self, options: &Options, trigger: &Trigger) -> Result<(), Error> {
        let (most, limit, mut older) = (options.max_draining, options.timeout, self.older.clone());
        if self.has_draining_slot(options) {
            return Ok(());
        }
        log::info!(older = *older.borrow(), most, "as many generations drain as may, waiting until one has ended");
        let gives_up = async {
            match trigger {
                // It learns why it is refused.
                Trigger::Rendezvous(applicant) => applicant.wait(limit + ANSWER_LIMIT).await,
                Trigger::Spawn => pending().await,
            }
        };
        let has_slot = async { older.wait_for(|older| *older < most).await.map(drop) };
        tokio::select! {
            waited = timeout(limit, has_slot) => {
                if waited.is_ok() {
                    return Ok(());
                }
            }
            refusal = gives_up => return Err(failed(format!("the new process has not waited: {refusal}"))),
        }
        Err(failed(no_slot(*self.older.borrow(), most, limit)))
    }
}

fn no_slot(older: u32, most: u32, limit: Duration) -> String {
    let generations =
        if older == 1 { "1 older generation still drains" } else { &format!("{older} older generations still drain") };
    format!(
        "{generations} after {limit:?} (handoff_timeout), and no more than {most} may (max_draining); try again when one has \
         ended, or lower drain_timeout"
    )
}
