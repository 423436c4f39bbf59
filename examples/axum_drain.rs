//! Plain `axum::serve`, drained: what `Server` does by itself, put together by hand.
//!
//! ```text
//! cargo run --example axum_drain
//! curl -i http://127.0.0.1:8080/
//! ```
//!
//! Ctrl-C or SIGTERM: for a second every client may send one more request, which is answered with `connection: close`.
//! `docs/reference/drain.md` says what is weaker than under `Server`.

use std::{io, time::Duration};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Drain, layer::DrainLayer, readiness::readiness};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> io::Result<()> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    let drain = Drain::new();
    begin_at_a_signal(&drain)?;

    let app = Router::new().route("/", get(|| async { "hello\n" })).route("/ready", readiness());
    let serving = axum::serve(activated.one("http")?.stop_on(&drain), app.layer(DrainLayer::new(&drain)))
        .with_graceful_shutdown(drain.started_after(Duration::from_secs(1)));
    let (served, report) = drain.run_server(serving, Duration::from_secs(20)).await;
    println!("{report}");
    served.unwrap_or(Ok(()))
}

fn begin_at_a_signal(drain: &Drain) -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let drain = drain.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        drain.start();
    });
    Ok(())
}
