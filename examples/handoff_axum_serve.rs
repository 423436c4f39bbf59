//! The handoff with plain `axum::serve`: listeners and state go to the next process, connections drain in the old one.
//!
//! ```text
//! cargo build --example handoff_axum_serve && target/debug/examples/handoff_axum_serve &
//! curl http://127.0.0.1:8080/               # generation 0
//! kill -HUP $!
//! curl http://127.0.0.1:8080/               # generation 1
//! ```

use std::{error::Error, time::Duration};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Drain, Notifier, handoff::Handoff, layer::DrainLayer, notify::State};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Without this, it panics when the reader of standard error is gone.
    tracing_subscriber::fmt().log_internal_errors(false).init();
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    let listener = activated.one("http")?;
    let drain = Drain::new();

    let pending = Handoff::builder(&activated).join().await?;
    // Here the service initialises itself; the predecessor, if there is one, still serves.
    let handoff = pending.ready(&drain).await?;
    // With Type=notify systemd waits for it. Without NOTIFY_SOCKET nothing is sent.
    Notifier::from_env().notify([State::Ready]);
    tracing::info!("serving");
    stop_on_sigterm(drain.clone())?;

    let generation = handoff.handoff().generation();
    let index = move || async move { format!("generation {generation}, pid {}\n", std::process::id()) };
    let app = Router::new().route("/", get(index)).layer(DrainLayer::new(&drain));
    let serving =
        axum::serve(listener.stop_on(&drain), app).with_graceful_shutdown(drain.started_after(Duration::from_secs(1)));
    let (served, report) = drain.run_server(serving, Duration::from_secs(30)).await;
    handoff.finish().await;
    tracing::info!(%report, "bye");
    served.transpose()?;
    Ok(())
}

fn stop_on_sigterm(drain: Drain) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        terminate.recv().await;
        drain.start();
    });
    Ok(())
}
