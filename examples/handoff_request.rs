//! Asks a running service for a handoff, from a deploy script: exits with 1 and the reason where there was none.
//!
//! ```text
//! handoff_request /run/app/handoff.sock || echo "the old version serves on"
//! ```

use std::{process::ExitCode, time::Duration};

use axum_activation::handoff::request_handoff;
use tokio::time::sleep;

/// How long a stop of the service may take to get here, too.
const STOP: Duration = Duration::from_millis(300);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: handoff_request PATH");
        return ExitCode::from(2);
    };
    match request_handoff(path).await {
        Ok(pid) => {
            println!("process {pid} serves now");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:?}");
            // systemd stops the service and its ExecReload= at once, and takes the end of this program by SIGTERM for no failure
            // of the service (SuccessExitStatus=SIGTERM). It may hear of the stop first: an exit with 1 would be one.
            sleep(STOP).await;
            ExitCode::FAILURE
        }
    }
}
