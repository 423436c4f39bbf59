//! Hands over to the next version of itself, as often as you like: no request is lost, no connection closed.
//!
//! ```text
//! cargo build --example handoff && target/debug/examples/handoff &
//! curl http://127.0.0.1:8080/               # generation 0, pid .., 1 request so far
//! kill -HUP $!                              # or put a new binary in place first
//! curl http://127.0.0.1:8080/               # generation 1, another pid, 2 requests so far
//! pkill -HUP -x handoff                     # and so on, with any load on it
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Router, extract::State, routing::get};
use axum_activation::{
    ActivatedListeners, Error, Server,
    handoff::{Handoff, StatePart},
};

#[derive(Clone)]
struct App {
    handoff: Handoff,
    requests: Arc<AtomicU64>,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Without this, it panics when the reader of standard error is gone.
    tracing_subscriber::fmt().log_internal_errors(false).init();
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    let requests = Arc::new(AtomicU64::new(0));
    let server = Server::new(activated);
    let app = App { handoff: server.handoff(), requests: Arc::clone(&requests) };

    let counted = Arc::clone(&requests);
    let report = server
        .serve("http", Router::new().route("/", get(index)).with_state(app))
        // What was counted after the next process began is given to it when the last request is answered.
        .final_handoff_state(StatePart::new(
            "requests",
            move || {
                let count = counted.load(Ordering::Relaxed);
                async move { Ok::<_, Error>(count.to_le_bytes().to_vec()) }
            },
            move |snapshot| async move {
                let count = u64::from_le_bytes(snapshot.bytes()[..].try_into()?);
                requests.fetch_add(count, Ordering::Relaxed);
                Ok::<_, std::array::TryFromSliceError>(())
            },
        ))
        .run()
        .await?;
    tracing::info!(%report, "bye");
    Ok(())
}

async fn index(State(App { handoff, requests }): State<App>) -> String {
    let count = requests.fetch_add(1, Ordering::Relaxed) + 1;
    format!("generation {}, pid {}, {count} requests so far\n", handoff.generation(), std::process::id())
}
