//! Asks a running service for a hand-over, from a deploy script: exits with 1 and the reason where there was none.
//!
//! ```text
//! handoff_request /run/app/handoff.sock || echo "the old version serves on"
//! ```

use std::process::ExitCode;

use axum_activation::handoff::request_handoff;

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
            ExitCode::FAILURE
        }
    }
}
